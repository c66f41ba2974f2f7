"""What the desk shows of all series, and the course of an alert's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from redis import Redis

from alerts.alert import Alert
from alerts.course import course
from alerts.desk.charts import bins_of
from alerts.now import Now, table
from alerts.settings import SurgeSettings
from alerts.store import FENCE, FencedError
from alerts.surge import Detector

_FIRST = 28_000_020  # a full hour
_CALM_MIN = 30 * 60


@pytest.fixture(scope="module")
def surged() -> Detector:
    """30 hours of three series at the same pace; SIVB turns negative for the last 20 minutes."""
    detector = Detector(SurgeSettings(warm_up_h=24, warm_up_items=100))
    rng = np.random.default_rng(3)
    for minute in range(_FIRST, _FIRST + _CALM_MIN + 20):
        counts: dict[tuple[str, int, str], int] = {}
        for series in ("topic=Earnings", "company=SIVB", "company=JPM"):
            bad = 0.9 if series == "company=SIVB" and minute >= _FIRST + _CALM_MIN else 0.15
            negative = int(rng.binomial(2, bad))
            for name in ("market", series):
                for sentiment, count in (("negative", negative), ("neutral", 2 - negative)):
                    if count:
                        key = (name, minute, sentiment)
                        counts[key] = counts.get(key, 0) + count
        detector.update(minute, counts)
    return detector


def test_the_most_unusual_series_comes_first_with_what_was_seen_and_expected(surged: Detector) -> None:
    found = table(surged, 1.0)
    first = found.rows[0]
    assert (first.series, first.name, first.state) == ("company=SIVB", "SIVB", "pending")
    assert first.observed > first.high >= first.expected >= first.low
    assert {row.state for row in found.rows if row.kind == "topic"} == {"normal"}
    assert found.series == len(found.rows) == 4
    assert first.items_min == pytest.approx(2.0)
    # An hour in bins of two minutes: the sum is the hour's.
    assert (first.bin_min, len(first.totals), sum(first.totals)) == (2, 30, 120)
    assert sum(first.negatives[-10:]) > 25 > sum(first.negatives[:10])


def test_what_was_expected_stands_beside_what_was_counted(surged: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    row = table(surged, 1.0).rows[0]
    fine = bins_of(row, surged.minute)
    assert (len(fine), fine[-1].start) == (30, surged.minute // 2 * 2)
    assert [each.negatives for each in fine] == row.negatives
    assert all(each.low <= each.negatives <= each.high for each in fine[:15])
    assert sum(each.negatives > each.high for each in fine[-10:]) >= 8
    monkeypatch.setattr("alerts.now._BUSY_ITEMS", 1_000)
    row = table(surged, 1.0).rows[0]
    assert (row.series, row.bin_min) == ("company=SIVB", 60)
    assert bins_of(row, surged.minute) == [each for each in course(surged, row.series) if each.span_min == 60]
    assert bins_of(msgspec.structs.replace(row, due=[], lows=[], highs=[]), surged.minute) == []


def test_the_table_is_bounded_and_keeps_the_market_and_the_topics(surged: Detector) -> None:
    assert [row.kind for row in table(surged, 1.0, rows=1).rows].count("company") == 1
    assert {"market", "topic"} <= {row.kind for row in table(surged, 1.0, rows=1).rows}


def test_a_course_holds_the_counts_that_came_and_a_band_that_the_surge_leaves(surged: Detector) -> None:
    bins = course(surged, "company=SIVB")
    by_span = {span: [each for each in bins if each.span_min == span] for span in (5, 15, 60)}
    assert {span: len(found) for span, found in by_span.items()} == {5: 12, 15: 16, 60: 24}
    for span, found in by_span.items():
        assert all(later.start - earlier.start == span for earlier, later in pairwise(found))
        assert found[-1].start <= surged.minute < found[-1].start + span
        full = found[1:-1]
        assert all(each.negatives + each.others == 2 * span for each in full)
    assert by_span[15][-1].negatives > by_span[15][-1].high
    calm = by_span[60][:-1]
    assert sum(each.low <= each.negatives <= each.high for each in calm) >= len(calm) - 3
    assert course(surged, "company=SIVB", latest=2) == [each for found in by_span.values() for each in found[-2:]]


def test_what_was_written_is_read_again_and_a_minute_is_written_once(
    surged: Detector, store: Redis, alert: Alert
) -> None:
    began = datetime.fromtimestamp(surged.minute * 60, UTC)
    theme = msgspec.structs.replace(alert, id="b" * 32, series="theme=Bank run", started_at=began)
    now = Now(store)
    assert (now.read(), now.minute(), now.course(alert.id)) == (None, None, [])
    now.write(surged, [msgspec.structs.replace(alert, started_at=began), theme])
    assert now.minute() == surged.minute
    read = now.read()
    assert read is not None
    assert read.rows == table(surged, 0.0).rows
    assert now.course(alert.id) == course(surged, "company=SIVB")
    assert now.course(theme.id) == []
    store.delete("nq:{alerts}:now")
    now.write(surged, [])
    assert now.read() is None


def test_no_series_write_no_table(store: Redis) -> None:
    Now(store).write(Detector(), [])
    assert not store.keys("*")


def test_who_leads_no_more_writes_no_table(surged: Detector, store: Redis, alert: Alert) -> None:
    store.set(FENCE, "2:other")
    with pytest.raises(FencedError):
        Now(store, lambda: "1:we").write(surged, [])
    now = Now(store, lambda: "2:other")
    steal = msgspec.structs.replace(alert, started_at=datetime.fromtimestamp(surged.minute * 60, UTC))

    def others() -> Iterator[Alert]:  # between the look at the lead and the writing
        yield steal
        store.set(FENCE, "3:third")

    with pytest.raises(FencedError):
        now.write(surged, others())
    assert store.keys("nq:{alerts}:now*") == store.keys("nq:{alerts}:course:*") == []
    store.set(FENCE, "2:other")
    now.write(surged, [steal])
    assert now.minute() == surged.minute
