"""`newsquake backtest --try`: each value gives what a run with that setting gives; one that fails stops no other."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from alerts.engine import AlertEngine
from deploy import settings
from deploy.cli import cli
from deploy.commands import _judging, backtest
from tests.integration.test_backtest import SURGE, rows, written
from tests.soak.instant_worker import InstantScorer

pytestmark = pytest.mark.integration

TRY = ("alerts.surge.threshold_z=2.5,4,12",)
NAMES = ["surge.threshold_z=2.5", "surge.threshold_z=4", "surge.threshold_z=12"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / "items.csv", rows())


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> settings.Settings:
    (tmp_path / "newsquake.toml").write_text(
        '[[alerts.receivers]]\ntype = "webhook"\nname = "desk"\nurl = "http://127.0.0.1:1/"\n'
        f'secrets = ["whsec_{"A" * 32}"]\n'
    )
    (tmp_path / "rules.yaml").write_text("rules:\n  - {name: to the desk, match: {company: SIVB}, receivers: [desk]}\n")
    monkeypatch.setenv("NEWSQUAKE_CONFIG", str(tmp_path / "newsquake.toml"))
    monkeypatch.setenv("NEWSQUAKE_ALERTS__RULES", str(tmp_path / "rules.yaml"))
    return settings.load()


def single(config: settings.Settings, file: Path, out: Path, threshold_z: float) -> bytes:
    surge = config.alerts.surge.model_copy(update={"threshold_z": threshold_z})
    one = config.model_copy(update={"alerts": config.alerts.model_copy(update={"surge": surge})})
    backtest.run(one, file, out, {}, None, 24.0, InstantScorer)
    return (out / "alerts.jsonl").read_bytes()


def test_each_value_gives_what_a_run_with_that_setting_gives(
    config: settings.Settings, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, events = tmp_path / "out", tmp_path / "events.csv"
    events.write_text(f"time,name,series\n{SURGE.isoformat()},a run,SIVB\n")
    told = backtest.run(config, file, out, {}, events, 24.0, InstantScorer, tries=TRY)
    expected = [single(config, file, tmp_path / "single", z) for z in (2.5, 4, 12)]
    assert [(out / "tried" / name / "alerts.jsonl").read_bytes() for name in NAMES] == expected
    assert len(set(expected)) == 3
    assert (out / "alerts.jsonl").read_bytes() == single(config, file, tmp_path / "single", 3.7)

    table = [line.split() for line in told.splitlines() if line.startswith(("as set", "surge."))]
    found = [str(len(raw.splitlines())) for raw in expected]
    assert [row[:2] for row in table[1:]] == [[name, number] for name, number in zip(NAMES, found, strict=True)]
    assert "sensitivity" in told
    page = (out / "report.html").read_text("utf-8")
    assert all(
        f'<td>{name}</td><td class="number">{number}</td>' in page for name, number in zip(NAMES, found, strict=True)
    )

    monkeypatch.setattr(_judging, "_Child", None)  # what would judge
    monkeypatch.setattr(AlertEngine, "tick", None)
    again = backtest.run(config, file, out, {}, events, 24.0, InstantScorer, tries=TRY)
    assert again.splitlines()[1:] == told.splitlines()[1:]
    assert single(config, file, out, 4) == expected[1]
    assert "surge.threshold_z=4" not in (out / "report.html").read_text("utf-8")


def test_one_that_is_killed_is_named_and_stops_no_other(
    config: settings.Settings, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    killed: list[int] = []

    @contextmanager
    def killing() -> Iterator[Any]:
        def show(stage: str, done: int, of: int) -> None:
            running = multiprocessing.active_children()
            if len(running) == 2 and not killed:
                last = max(running, key=lambda each: each.pid or 0)
                killed.append(last.pid or 0)
                last.kill()

        yield show

    monkeypatch.setattr(backtest, "shown_stages", killing)
    monkeypatch.setattr(_judging, "_cores", lambda: 2)
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as ended:
        backtest.run(config, file, out, {}, None, 24.0, InstantScorer, tries=TRY)
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert f"newsquake: {NAMES[0]} could not be judged: its process was killed (SIGKILL)" in said.err
    assert f"{NAMES[0]}  not judged: its process was killed (SIGKILL)" in said.out
    assert not (out / "tried" / NAMES[0]).exists()
    assert (out / "tried" / NAMES[2] / "alerts.jsonl").exists()
    assert "not judged: its process was killed (SIGKILL)" in (out / "report.html").read_text("utf-8")
    assert not multiprocessing.active_children()

    started: list[str] = []
    child = _judging._Child
    monkeypatch.setattr(_judging, "_Child", lambda digest, *rest: started.append(digest) or child(digest, *rest))
    backtest.run(config, file, out, {}, None, 24.0, InstantScorer, tries=TRY)
    assert len(started) == 1
    assert (out / "tried" / NAMES[0] / "alerts.jsonl").read_bytes() == single(config, file, tmp_path / "single", 2.5)


def test_an_error_in_the_settings_as_they_are_leaves_the_others(
    config: settings.Settings, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    servers, new_server = list[int](), _judging.new_server

    @contextmanager
    def second_is_lost() -> Iterator[str]:
        with new_server() as url:
            servers.append(1)
            yield url if len(servers) != 2 else "redis://127.0.0.1:1/0"

    monkeypatch.setattr(_judging, "new_server", second_is_lost)
    out = tmp_path / "out"
    with pytest.raises(SystemExit):
        backtest.run(config, file, out, {}, None, 24.0, InstantScorer, tries=TRY)
    said = capsys.readouterr()
    assert "newsquake: as set could not be judged: ConnectionError: " in said.err
    assert "no report" in said.out
    assert all((out / "tried" / name / "alerts.jsonl").exists() for name in NAMES)
    assert not (out / "report.html").exists()


def test_a_wrong_name_or_value_is_told_before_anything_is_done(config: settings.Settings, file: Path) -> None:
    out = file.parent / "out"
    for words, told in (
        ("alerts.surge.treshold_z=4", "did you mean alerts.surge.threshold_z?"),
        ("alerts.surge.threshold_z=4,much", "alerts.surge.threshold_z=much: Input should be a valid number"),
        ("alerts.rules=nowhere.yaml", "nowhere.yaml:1:1: is no file"),
    ):
        result = CliRunner().invoke(cli, ["backtest", str(file), "--out", str(out), "--try", words])
        assert result.exit_code == 2
        assert told in result.output
        assert not out.exists()
