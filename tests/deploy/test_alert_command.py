"""`newsquake alert` and `silence`: what an analyst sees and does at a terminal."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
import redis
from click.testing import CliRunner, Result

from alerts import life
from alerts.audit import Audit, Entry
from alerts.store import AlertStore
from alerts.trial import trial
from deploy.cli import cli


@pytest.fixture
def fired(store: redis.Redis) -> str:
    """The id of an alert that fires; its name holds what steers terminals."""
    alert = trial("desk", datetime.now(UTC))[0].alerts[0]
    AlertStore(store).put(msgspec.structs.replace(alert, name="Ac\x1b[31mme"))
    return alert.id


def newsquake(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


def said(*words: str) -> str:
    result = newsquake(*words)
    assert result.exit_code == 0, result.output
    return result.output


def test_an_alert_is_acknowledged_taken_back_and_resolved(fired: str) -> None:
    assert "firing" in said("alert", "list")
    assert "acknowledged by anna" in said("alert", "ack", fired[:8], "--as", "anna", "--reason", "on it")
    assert "acknowledged by anna" in said("alert", "list")
    for who in ("ben", "an\nna", ""):
        assert newsquake("alert", "ack", fired[:8], "--as", who).exit_code == 2
    said("alert", "unack", fired, "--as", "anna")
    said("alert", "resolve", fired, "--as", "ben", "--reason", "old news")
    assert "no alert is open" in said("alert", "list")
    shown = said("alert", "show", fired)
    assert "on it" in shown
    assert "old news" in shown
    assert "\x1b" not in shown
    view = json.loads(said("alert", "show", fired, "--json"))
    assert [step["event"] for step in view["transitions"]] == ["firing", "acknowledged", "unacknowledged", "resolved"]
    assert [each["life"]["state"] for each in json.loads(said("alert", "list", "--all", "--json"))] == ["resolved"]
    assert "reopened by anna" in said("alert", "reopen", fired[:8], "--as", "anna", "--reason", "the wrong one")
    assert "firing" in said("alert", "list")
    assert "is not resolved" in newsquake("alert", "reopen", fired, "--as", "anna").output


def test_what_a_long_history_lacks_is_said(fired: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life, "KEPT", 24)
    assert "not kept" not in said("alert", "show", fired)
    for _ in range(13):
        laid = json.loads(said("silence", "add", "series=~.+", "--reason", "known", "--as", "anna", "--json"))
        said("silence", "expire", laid["silence"]["id"], "--as", "anna")
    shown = said("alert", "show", fired)
    assert "3 more between these are not kept" in shown
    assert shown.count("silenced") >= 23


def test_a_note_is_written_and_shown(fired: str, store: redis.Redis) -> None:
    assert "noted by anna" in said("alert", "note", fired[:8], "they \x1b[31mknow", "--as", "anna")
    assert "1 to 500 characters" in newsquake("alert", "note", fired, "\x1b", "--as", "anna").output
    shown = said("alert", "show", fired)
    assert "they [31mknow" in shown
    assert "firing" in said("alert", "list")
    assert [(each.what, each.target, each.detail) for each in Audit(store).last()] == [("note", fired, "they [31mknow")]


@pytest.mark.parametrize(
    "words",
    [
        ("alert", "ack", "3fa9"),
        ("silence", "add", "company=JPM", "--for", "1h", "--reason", "x"),
        ("silence", "change", "3", "--for", "1h"),
        ("silence", "expire", "3"),
    ],
)
def test_where_the_user_is_the_system_who_acts_must_be_said(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "newsquake")
    monkeypatch.setenv("NEWSQUAKE_REDIS__URL", "redis://127.0.0.1:1")  # nothing is asked of it
    refused = newsquake(*words)
    assert refused.exit_code == 2
    assert "--as" in refused.output


def audit(store: redis.Redis) -> list[tuple[str, str, str, str]]:
    def row(each: Entry) -> tuple[str, str, str, str]:
        assert each.address == "command line"
        return each.who, each.what, each.target, each.detail

    return [row(each) for each in reversed(Audit(store).last())]


def test_who_did_what_by_a_command_is_in_the_audit_log(
    store: redis.Redis, fired: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "ops")
    said("alert", "ack", fired[:8], "--as", "anna", "--reason", "on it")
    assert newsquake("alert", "ack", fired[:8], "--as", "ben").exit_code == 2
    said("silence", "add", "company=JPM", "--as", "anna", "--reason", "known")
    (silence,) = json.loads(said("silence", "list", "--json"))
    said("silence", "expire", silence["id"], "--as", "ben")
    token = said("desk", "token", "add", "Cleo", "--role", "analyst").strip()
    assert "Cleo" in said("desk", "token", "list")
    said("desk", "token", "revoke", "Cleo")
    assert newsquake("desk", "token", "revoke", "Cleo").exit_code == 2
    assert audit(store) == [
        ("anna", "acknowledge", fired, "on it"),
        ("anna", "silence", silence["id"], 'company="JPM": known'),
        ("ben", "expire_silence", silence["id"], ""),
        ("ops", "make token", "Cleo", "analyst"),
        ("ops", "revoke token", "Cleo", ""),
    ]
    assert token not in str(Audit(store).last())


def test_a_beginning_that_names_no_alert_or_several_is_refused(fired: str) -> None:
    for start in ("nothing", ""):
        result = newsquake("alert", "ack", start, "--as", "anna")
        assert (result.exit_code, "alerts' ids begin with" in result.output) == (2, True)


def test_a_silence_is_laid_listed_and_ended(store: redis.Redis, fired: str) -> None:
    view = AlertStore(store).view(fired)
    assert view is not None
    matcher = f'series="{view.alert.series}"'
    assert "1 more open alerts are silenced" in said("silence", "add", matcher, "--for", "1d12h", "--reason", "known")
    assert "silenced" in said("alert", "list")
    assert "holds" in said("silence", "list")
    (found,) = json.loads(said("silence", "list", "--json"))
    assert found["id"][:12] in said("silence", "list")
    for start in ("nothing", ""):
        assert "0 silences' ids begin with" in newsquake("silence", "expire", start).output
    assert "1 open alerts are no longer silenced" in said("silence", "expire", found["id"][:5], "--as", "ben")
    assert "there is no silence" in said("silence", "list")
    assert "ended" in said("silence", "list", "--all")


def test_a_silence_may_begin_and_end_at_a_time(store: redis.Redis) -> None:
    until = f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%dT%H:%M}"
    said("silence", "add", "company=JPM", "--from", "2h", "--until", until, "--reason", "earnings")
    assert "lies ahead" in said("silence", "list")


def test_a_silence_ends_by_the_clocks_of_a_zone_and_is_given_another_end(store: redis.Redis) -> None:
    day = f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%d}"

    def ends(*words: str) -> str:
        return str(json.loads(said("silence", *words, "--as", "anna", "--json"))["ends_at"])

    made = json.loads(
        said("silence", "add", "company=JPM", "--until", f"{day} 09:00", "--zone", "Asia/Tokyo", "--reason", "x",
             "--as", "anna", "--json")
    )["silence"]  # fmt: skip
    assert made["ends_at"] == f"{day}T00:00:00Z"
    assert ends("change", made["id"][:5], "--until", f"{day}T09:00+01:00") == f"{day}T08:00:00Z"
    assert ends("change", made["id"], "--until", f"{day}T09:30Z") == f"{day}T09:30:00Z"
    assert f"silence {made['id']} until " in said("silence", "change", made["id"], "--for", "90m", "--as", "ben")
    (found,) = json.loads(said("silence", "list", "--json"))
    length = datetime.fromisoformat(found["ends_at"]) - datetime.fromisoformat(found["changed_at"])
    assert (length, found["author"], found["changed_by"]) == (timedelta(minutes=90), "anna", "ben")
    assert [row[:3] for row in audit(store)[1:]] == [
        (who, "change_silence", made["id"]) for who in ("anna", "anna", "ben")
    ]
    said("silence", "expire", made["id"], "--as", "ben")
    for words, problem in (
        ((made["id"], "--for", "2h"), "ended at"),
        (("nothing", "--for", "2h"), "0 silences' ids begin with"),
        ((made["id"],), "Missing option '--for'"),
        ((made["id"], "--until", f"{day} 09:00", "--zone", "Europe/Lundon"), "is no time zone"),
    ):
        result = newsquake("silence", "change", *words, "--as", "anna")
        assert (result.exit_code, problem in result.output) == (2, True), result.output


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("company=JPM", "--until", "2026-03-29 01:30", "--zone", "Europe/London"), "never show 2026-03-29 01:30"),
        (("company",), "no matcher"),
        (("compny=JPM",), "no label is called"),
        (("company=JPM", "--for", "soon"), "is no length"),
        (("company=JPM", "--until", "2020-01-01"), "would have ended at 2020-01-01 00:00 UTC already"),
        (("company=JPM", "--for", "99999999999w"), "too long"),
        (("company=JPM", "--until", "2999-01-01"), "within 366 days"),
    ],
)
def test_what_makes_no_silence_is_said(store: redis.Redis, words: tuple[str, ...], problem: str) -> None:
    result = newsquake("silence", "add", *words, "--reason", "x", "--as", "anna")
    assert result.exit_code == 2
    assert problem in result.output


def test_a_redis_that_is_away_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEWSQUAKE_REDIS__URL", "redis://127.0.0.1:1/0")
    result = newsquake("alert", "list")
    assert (result.exit_code, "Redis cannot be asked" in result.output) == (2, True)
