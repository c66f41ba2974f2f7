"""`newsquake rules` as an operator runs it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deploy.cli import cli

RULES = """\
time_intervals:
  - {name: weekend, time_intervals: [{weekdays: "saturday:sunday"}]}
rules:
  - name: banks
    match: {company: [JPM, C]}
    sensitivity: high
    critical_from: never
    receivers: [desk]
    continue: true
  - {name: weekends, match: {during: weekend}, mute: true, windows: [1h, 1d]}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.yaml").write_text(RULES.replace("1d", "4h"))
    secret = "whsec_" + "A" * 32
    (tmp_path / "newsquake.toml").write_text(
        '[alerts]\nrules = "rules.yaml"\n[[alerts.receivers]]\ntype = "webhook"\nname = "desk"\nurl = "https://desk.example/token"\n'
        f'secrets = ["{secret}"]\n'
    )
    return tmp_path


def newsquake(*words: str) -> Result:
    return CliRunner().invoke(cli, ["rules", *words])


def test_check_is_silent_about_what_is_right(folder: Path) -> None:
    done = newsquake("check")
    assert (done.exit_code, done.output) == (0, "rules.yaml: 2 rules, nothing is wrong\n")


def test_check_lists_every_mistake_with_its_place(folder: Path) -> None:
    (folder / "bad.yaml").write_text("rules:\n  - {nam: x}\n  - {name: y, mute: 3}\n")
    done = newsquake("check", "bad.yaml")
    assert done.exit_code == 1
    assert [line.split(": ")[0] for line in done.output.splitlines()] == [
        "bad.yaml:2:5",
        "bad.yaml:2:6",
        "bad.yaml:3:21",
    ]
    assert "did you mean name?" in done.output


def test_check_knows_receivers_and_topics(folder: Path) -> None:
    (folder / "bad.yaml").write_text("rules:\n  - {name: x, match: {topic: Earnigs}, receivers: dsk}\n")
    done = newsquake("check", "bad.yaml")
    assert "did you mean Earnings?" in done.output
    assert "did you mean desk?" in done.output
    assert "token" not in done.output


def test_without_a_file_there_is_nothing_to_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert newsquake("check").exit_code == 2
    shown = newsquake("show", "market")
    assert shown.exit_code == 0
    assert "there is no file of rules" in shown.output


def test_show_says_which_rule_matched_and_what_holds(folder: Path) -> None:
    shown = newsquake("show", "company=JPM", "--at", "2026-11-28T12:00").output
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines()}
    assert rows["rules:"] == ["banks,", "weekends"]
    assert rows["mute"] == ["yes", "weekends"]
    assert rows["receivers"] == ["desk", "banks"]
    assert rows["critical_from"] == ["never", "banks"]
    assert rows["windows"] == ["1h", "4h", "weekends"]
    assert rows["minimum_count"][-1] == "settings"
    monday = newsquake("show", "company=JPM", "--at", "2026-11-30T12:00+01:00").output
    assert "rules: banks\n" in monday


@pytest.mark.parametrize(("words", "says"), [(("firm=x",), "is no series"), (("market", "--at", "noon"), "is no time")])
def test_show_refuses_what_it_does_not_understand(folder: Path, words: tuple[str, ...], says: str) -> None:
    done = newsquake("show", *words)
    assert (done.exit_code, says in done.output) == (2, True)


def test_the_example_can_be_used_as_it_is(folder: Path) -> None:
    (folder / "mine.yaml").write_text(newsquake("example").output)
    assert newsquake("check", "mine.yaml").exit_code == 0


def test_a_misspelt_receiver_name_is_refused(folder: Path) -> None:
    toml = folder / "newsquake.toml"
    toml.write_text(toml.read_text().replace('"desk"', '"the desk"'))
    done = newsquake("check")
    assert done.exit_code == 1
    assert "alerts.receivers.0.webhook.name" in str(done.exception)
