"""What `--try` takes, and what it refuses before anything is done."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from alerts.settings import AlertsSettings, SurgeSettings
from stream.backtest_table import text_of
from stream.events import Estimate
from stream.variants import MOST, Tried, VariantError, variants_of
from tests.made import made_alert

SET = AlertsSettings(surge=SurgeSettings(minimum_count=7))


def test_each_value_is_a_variant_of_what_is_set() -> None:
    found = variants_of(SET, ["alerts.surge.threshold_z=3.3, 4,4.0"])
    assert [each.name for each in found] == ["surge.threshold_z=3.3", "surge.threshold_z=4"]
    assert [each.alerts.surge for each in found] == [SurgeSettings(minimum_count=7, threshold_z=z) for z in (3.3, 4)]
    assert variants_of(SET, []) == []


def test_of_several_settings_there_are_all_pairs() -> None:
    found = variants_of(SET, ["alerts.discovery.on=false,true", "alerts.critical_z=5,8", "alerts.rules=a/b.yaml"])
    assert [(each.alerts.discovery.on, each.alerts.critical_z) for each in found] == [
        (False, 5.0), (False, 8.0), (True, 5.0), (True, 8.0),
    ]  # fmt: skip
    assert found[0].name == "discovery.on=false,critical_z=5,rules=a%2Fb.yaml"
    assert found[0].alerts.rules == Path("a/b.yaml")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["alerts.surge.treshold_z=4"], "did you mean alerts.surge.threshold_z?"),
        (["surge.threshold_z=4"], "did you mean alerts.surge.threshold_z?"),
        (["alerts.windows.late_after_s=60"], "no setting of alerts that can be tried"),
        (["model.device=cpu"], "no setting of alerts that can be tried"),
        (["alerts.surge=4"], "no setting of alerts that can be tried"),
        (["alerts.surge.threshold_z"], "needs values"),
        (["alerts.surge.threshold_z=4,,5"], "needs values"),
        (["alerts.surge.threshold_z=4,high"], "alerts.surge.threshold_z=high: Input should be a valid number"),
        (["alerts.surge.threshold_z=1"], "alerts.surge.threshold_z=1: Input should be greater than or equal to 2"),
        (["alerts.surge.exchange=XNYS,ZZZZ"], "alerts.surge.exchange=ZZZZ: no calendar of the exchange 'ZZZZ'"),
        (["alerts.stories=3", "alerts.stories=4"], "alerts.stories is given twice"),
        (["alerts.surge.minimum_count=" + ",".join(map(str, range(1, 8))), "alerts.stories=1,2,3,4,5"], f"{MOST} at"),
    ],
)
def test_what_is_wrong_is_said(asked: list[str], told: str) -> None:
    with pytest.raises(VariantError, match=told.replace("?", r"\?")):
        variants_of(SET, asked)


def test_the_table_says_of_each_what_came_of_it() -> None:
    alert = made_alert("SIVB", datetime(2023, 3, 10, tzinfo=UTC))
    assert text_of(
        [
            Tried(name="as set", alerts=[alert, alert], a_week=Estimate(0.5, 0.06, 1.8)),
            Tried(name="surge.threshold_z=4", failure="its process was killed (SIGKILL)"),
        ]
    ).splitlines() == [
        "tried                alerts  critical  a week",
        "as set               2       2         0.5 (0.06 to 1.8)",
        "surge.threshold_z=4  not judged: its process was killed (SIGKILL)",
    ]
