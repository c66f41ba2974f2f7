"""A backtest and what runs live give the same alerts; a killed one goes on; the report holds no foreign mark-up."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from alerts.engine import AlertEngine
from alerts.store import AlertStore
from deploy import settings
from deploy.cli import cli
from deploy.commands import backtest
from ingest.publish import Publisher
from model.errors import ModelError
from model.identity import Identity
from model.later import LaterScorer
from model.scorer import Scores
from stream.backtest import line_of
from stream.batch import MessagePath
from stream.history import History
from tests.soak.instant_worker import InstantScorer

pytestmark = pytest.mark.integration

T0 = datetime(2023, 3, 8, tzinfo=UTC)
SURGE = T0 + timedelta(hours=50)
PARTITIONS = 3


def rows() -> list[dict[str, Any]]:
    """Three days of calm with a surge about one company in it, reprints of it, a repeated row and a bad one."""
    found = []

    def add(at: datetime, words: str, sentiment: str, n: int) -> None:
        found.append(
            {
                "time": at.isoformat(),
                "text": f"{words} number {n} [{sentiment}] <b>today</b>",
                "source": f"Paper {n % 4}",
                "id": str(n),
                "link": f"https://example.org/{n}",
            }
        )

    for n in range(720):
        add(T0 + timedelta(minutes=6 * n), f"${'ABCDEF'[n % 6]}XY says", "negative" if n % 9 == 0 else "neutral", n)
    for n in range(1_000, 1_016):
        add(SURGE + timedelta(minutes=2 * (n - 1_000)), "$SIVB falls <script>alert(1)</script>", "negative", n)
    for n in range(1_016, 1_026):
        reprint = {**found[-1], "source": f"Paper {n}", "id": str(n), "time": (SURGE + timedelta(hours=1)).isoformat()}
        found.append(reprint)
    return [*found, found[-1], {**found[0], "time": "some day", "id": "bad"}]


def written(path: Path, items: list[dict[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(items[0]))
        writer.writeheader()
        writer.writerows(items)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / "items.csv", rows())


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> settings.Settings:
    (tmp_path / "empty.toml").touch()
    monkeypatch.setenv("NEWSQUAKE_CONFIG", str(tmp_path / "empty.toml"))
    monkeypatch.setenv("NEWSQUAKE_KAFKA__PARTITIONS", str(PARTITIONS))
    return settings.load()


def alerts_in(out: Path) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in (out / "alerts.jsonl").read_bytes().splitlines()]


def test_the_same_items_give_the_same_alerts_live_and_in_a_backtest(
    make_system: Callable[..., Any], config: settings.Settings, file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    backtest.run(config, file, out, {}, None, 24.0, InstantScorer)
    expected = alerts_in(out)
    assert expected
    with closing(History(out / backtest.KEPT)) as history:
        documents = [document for part in history.documents(500) for document in part]

    env = {"NEWSQUAKE_ALERTS__CLOCK": "event", "NEWSQUAKE_ALERTS__EXPLAIN": "false"}
    system = make_system({**env, "NEWSQUAKE_ALERTS__SNAPSHOT_S": "0.2"}, partitions=PARTITIONS)
    system.start_worker("stream")
    system.start("alerts", "alerts", "--port", "0")
    publisher = Publisher(system.kafka.bootstrap, system.topics.documents_topic, timeout_s=60)
    for start in range(0, len(documents), 100):
        publisher.publish(documents[start : start + 100])
    publisher.close()
    last = int(documents[-1].seen_at.timestamp() // 60)

    with system.redis() as client:

        def behind() -> str | None:
            raw = client.get("nq:{alerts}:state")
            minute = msgspec.msgpack.decode(raw)["minute"] if raw else 0
            return None if minute >= last - 2 else f"alerting stands at minute {minute} of {last}"

        system.wait(behind, 180)
        store = AlertStore(client)
        ids = dict.fromkeys(line.alert for line in reversed(store.log(1_000)))
        live = [line_of(alert) for each in ids if (alert := store.get(each)) is not None]
    live.sort(key=lambda line: (line["fired_at"], line["series"]))
    assert msgspec.json.decode(msgspec.json.encode(live)) == expected


def test_a_run_that_was_killed_goes_on_and_the_next_one_scores_nothing(
    config: settings.Settings, file: Path, tmp_path: Path
) -> None:
    seen: set[str] = set()

    class Failing(InstantScorer):
        """Scores a text once, and only so many."""

        left = 300

        def score(self, texts: list[str]) -> Scores:
            assert not seen & set(texts), "a text was scored twice"
            if Failing.left < len(texts):
                raise KeyboardInterrupt
            Failing.left -= len(texts)
            seen.update(texts)
            return super().score(texts)

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        backtest.run(config, file, out, {}, None, 24.0, Failing)
    assert not (out / "alerts.jsonl").exists()
    before = len(seen)
    assert before
    Failing.left = 10_000
    told = backtest.run(config, file, out, {}, None, 24.0, Failing)
    assert f", {len(seen) - before} texts scored anew" in told
    assert "1 bad rows were left out" in told
    whole = alerts_in(out)
    Failing.left = 0
    again = backtest.run(config, file, out, {}, None, 24.0, Failing)
    assert ", 0 texts scored anew" in again
    assert alerts_in(out) == whole


def test_the_surge_is_found_and_the_report_shows_it_without_foreign_markup(
    config: settings.Settings, file: Path, tmp_path: Path
) -> None:
    events = tmp_path / "events.csv"
    events.write_text(f"time,name,series\n{SURGE.isoformat()},<img src=x> run,SIVB\n")
    out = tmp_path / "out"
    backtest.run(config, file, out, {}, events, 24.0, InstantScorer)
    (alert,) = [line for line in alerts_in(out) if "SIVB" in line["series"]]
    fired = datetime.fromisoformat(alert["fired_at"])
    assert SURGE < fired <= SURGE + timedelta(minutes=31)
    assert alert["observed"] >= 5
    assert alert["publishers"] >= 2
    assert all(datetime.fromisoformat(story["time"]) <= fired for story in alert["stories"])
    assert alert["stories"][0]["link"].startswith("https://example.org/")
    page = (out / "report.html").read_text("utf-8")
    assert f'id="a-{alert["id"]}"' in page
    assert "100% (" in page  # the event was found
    assert "&lt;img src=x&gt; run" in page
    assert "<script" not in page
    assert "<img" not in page
    addresses = set(re.findall(r'(?:src|href)="(?!#)([^"]*)"', page))
    assert all(address.startswith("https://example.org/") for address in addresses)
    assert [msgspec.json.decode(line)["row"] for line in (out / "bad_rows.jsonl").read_bytes().splitlines()] == [748]


def test_other_rules_need_no_scoring_and_decide_what_is_told(
    config: settings.Settings, file: Path, tmp_path: Path
) -> None:
    out, rules = tmp_path / "out", tmp_path / "rules.yaml"
    backtest.run(config, file, out, {}, None, 24.0, InstantScorer)
    assert any("company=SIVB" in line["series"] for line in alerts_in(out))
    rules.write_text("rules:\n  - {name: not this bank, match: {company: SIVB}, mute: true}\n")
    told = backtest.run(config, file, out, {}, None, 24.0, InstantScorer, rules)
    assert ", 0 texts scored anew" in told
    assert not any("company=SIVB" in line["series"] for line in alerts_in(out))
    assert "rules.yaml" in (out / "report.html").read_text("utf-8")


def test_what_the_windows_held_is_judged_again_to_the_same_as_if_it_were_counted_again(
    config: settings.Settings, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    surge = config.alerts.surge.model_copy(update={"threshold_z": 2.5, "minimum_count": 3})
    other = config.model_copy(update={"alerts": config.alerts.model_copy(update={"surge": surge})})
    out, anew = tmp_path / "out", tmp_path / "anew"
    backtest.run(config, file, out, {}, None, 24.0, InstantScorer)
    backtest.run(other, file, anew, {}, None, 24.0, InstantScorer)
    assert alerts_in(anew) != alerts_in(out)
    with monkeypatch.context() as patch:
        patch.setattr(MessagePath, "run", None)  # what would count
        backtest.run(other, file, out, {}, None, 24.0, InstantScorer)
    assert alerts_in(out) == alerts_in(anew)
    assert (out / "report.html").read_text("utf-8") == (anew / "report.html").read_text("utf-8")
    windows = config.alerts.windows.model_copy(update={"late_after_s": 60})
    late = config.model_copy(update={"alerts": config.alerts.model_copy(update={"windows": windows})})
    with monkeypatch.context() as patch, pytest.raises(TypeError):
        patch.setattr(MessagePath, "run", None)
        backtest.run(late, file, out, {}, None, 24.0, InstantScorer)


def test_what_was_judged_with_the_same_rules_and_settings_is_not_judged_again(
    config: settings.Settings, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, rules, events = tmp_path / "out", tmp_path / "rules.yaml", tmp_path / "events.csv"
    surge = config.alerts.surge.model_copy(update={"threshold_z": 2.5})
    other = config.model_copy(update={"alerts": config.alerts.model_copy(update={"surge": surge})})
    rules.write_text("rules:\n  - {name: not this bank, match: {company: SIVB}, mute: true}\n")
    events.write_text(f"time,name,series\n{SURGE.isoformat()},a run,SIVB\n")
    setups = [(config, None), (other, None), (config, rules)]
    first = []
    for each, by in setups:
        backtest.run(each, file, out, {}, None, 24.0, InstantScorer, by)
        first.append([(out / name).read_bytes() for name in ("alerts.jsonl", "report.html")])
    assert len({alerts for alerts, _ in first}) == 3

    monkeypatch.setattr(AlertEngine, "tick", None)  # what would judge
    for (each, by), expected in zip(setups, first, strict=True):
        backtest.run(each, file, out, {}, None, 24.0, InstantScorer, by)
        assert [(out / name).read_bytes() for name in ("alerts.jsonl", "report.html")] == expected
    backtest.run(config, file, out, {}, events, 24.0, InstantScorer)
    assert (out / "alerts.jsonl").read_bytes() == first[0][0]
    assert "100% (" in (out / "report.html").read_text("utf-8")
    rules.write_text("rules: []\n")
    with pytest.raises(TypeError):
        backtest.run(config, file, out, {}, None, 24.0, InstantScorer, rules)
    with pytest.raises(TypeError):
        backtest.run(config, file, out, {}, None, 24.0, InstantScorer, anew=True)


def test_alerts_are_judged_again_while_an_item_cannot_be_scored(
    config: settings.Settings, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with file.open("a", encoding="utf-8") as more:
        more.write(f"{SURGE.isoformat()},POISON [negative],Paper 9,p,https://example.org/p\n")
    out = tmp_path / "out"
    backtest.run(config, file, out, {}, None, 24.0, InstantScorer)
    monkeypatch.setattr(AlertEngine, "tick", None)
    with pytest.raises(TypeError):
        backtest.run(config, file, out, {}, None, 24.0, InstantScorer)


def test_it_is_judged_again_to_the_same_bits_across_long_gaps(
    config: settings.Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What of a gap is skipped depends on how far time had come before: items are counted in several steps."""
    monkeypatch.setattr("stream.backtest._TOGETHER", 130)
    rng, at = np.random.default_rng(1), T0
    items: list[dict[str, Any]] = []
    while len(items) < 500:
        for n in range(int(rng.integers(40, 90))):
            at += timedelta(minutes=int(rng.integers(1, 30)))
            label = "negative" if n < 12 or rng.random() < 0.1 else "neutral"  # a surge after each gap
            words = f"${'ABC'[n % 3]}XY says {len(items)} [{label}]"
            items.append({"time": at.isoformat(), "text": words, "source": f"Paper {n % 4}"})
        at += timedelta(minutes=int(rng.integers(2_100, 3_600)))
    file, states = written(tmp_path / "gaps.csv", items), []
    closed = AlertEngine.close

    def close(engine: AlertEngine) -> None:
        states.append(engine._judging.memory())
        closed(engine)

    monkeypatch.setattr(AlertEngine, "close", close)
    surge = config.alerts.surge.model_copy(update={"threshold_z": 2.5})
    other = config.model_copy(update={"alerts": config.alerts.model_copy(update={"surge": surge})})
    out, anew = tmp_path / "out", tmp_path / "anew"
    backtest.run(config, file, out, {}, None, 24.0, InstantScorer)
    backtest.run(other, file, anew, {}, None, 24.0, InstantScorer)
    monkeypatch.setattr(MessagePath, "run", None)  # what would count
    backtest.run(other, file, out, {}, None, 24.0, InstantScorer)
    assert states[2] == states[1] != states[0]
    assert alerts_in(out) == alerts_in(anew) != []


def test_items_of_this_very_minute_are_judged_again_too(config: settings.Settings, tmp_path: Path) -> None:
    items = rows()[:-1]
    later = datetime.now(UTC) + timedelta(seconds=100) - max(datetime.fromisoformat(each["time"]) for each in items)
    for each in items:
        each["time"] = (datetime.fromisoformat(each["time"]) + later).isoformat()
    file, out = written(tmp_path / "now.csv", items), tmp_path / "out"
    found = []
    for anew in (False, True):
        backtest.run(config, file, out, {}, None, 24.0, InstantScorer, anew=anew)
        found.append(alerts_in(out))
    assert found[0] == found[1] != []


def test_a_model_that_cannot_be_loaded_is_tried_once_and_what_is_kept_stays(
    config: settings.Settings, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    tried = []

    def load() -> Any:
        tried.append(1)
        raise ModelError("no encoder is there")

    out = tmp_path / "out"
    backtest.run(config, file, out, {}, None, 24.0, InstantScorer)
    other = Identity("other", "other", InstantScorer.sentiment_labels, InstantScorer.topic_labels)
    with pytest.raises(SystemExit):
        backtest.run(config, file, out, {}, None, 24.0, lambda: LaterScorer(other, "cpu", load))
    assert "no encoder is there" in capsys.readouterr().err
    assert len(tried) == 1
    monkeypatch.setattr(MessagePath, "run", None)
    backtest.run(config, file, out, {}, None, 24.0, InstantScorer)


def test_a_mistake_in_the_rules_or_the_columns_is_told_before_anything_is_done(
    config: settings.Settings, file: Path, tmp_path: Path
) -> None:
    out, rules = tmp_path / "out", tmp_path / "rules.yaml"
    rules.write_text("rules:\n  - {name: quiet, match: {company: SIVB}, mut: true}\n")
    for words, told in (
        (["--rules", str(rules)], ("rules.yaml:2:", "did you mean mute?")),
        (["--text", "body"], ("no column 'body'", "it has time, text, source, id, link")),
        (["--events", str(rules)], ("rules.yaml holds no event with a time", "row 1")),
    ):
        result = CliRunner().invoke(cli, ["backtest", str(file), "--out", str(out), *words])
        assert result.exit_code == 2
        assert all(word in result.output for word in told), result.output
        assert "Traceback" not in result.output
        assert not out.exists()


def test_broken_rows_are_counted_and_listed_and_the_rest_is_judged(
    config: settings.Settings, file: Path, tmp_path: Path
) -> None:
    lines = file.read_text("utf-8").splitlines()
    broken = ["", "soon,words,Paper,1,", "2999-01-01T00:00:00Z,words,Paper,2,", f"{T0.isoformat()},  ,Paper,3,"]
    file.write_text("\n".join([lines[0], *broken, *lines[1:]]) + "\n", "utf-8")
    out = tmp_path / "out"
    told = backtest.run(config, file, out, {}, None, 24.0, InstantScorer)
    listed = [msgspec.json.decode(line) for line in (out / "bad_rows.jsonl").read_bytes().splitlines()]
    assert f"{len(listed)} bad rows were left out" in told
    reasons = " ".join(each["reason"] for each in listed)
    assert "soon" in reasons
    assert "future" in reasons
    page = (out / "report.html").read_text("utf-8")
    assert f"{len(listed)} bad rows" in page
    assert "lies in the future" in page
    assert any("SIVB" in line["series"] for line in alerts_in(out))


def test_items_without_a_publisher_can_alert_and_the_report_says_so(
    config: settings.Settings, file: Path, tmp_path: Path
) -> None:
    text = re.sub(r",Paper \d+,", ",", file.read_text("utf-8")).replace(",source,", ",", 1)
    bare = tmp_path / "bare.csv"
    bare.write_text(text, "utf-8")
    told = backtest.run(config, bare, tmp_path / "out", {}, None, 24.0, InstantScorer)
    assert "No column says who published an item" in told
    assert any("SIVB" in line["series"] for line in alerts_in(tmp_path / "out"))
