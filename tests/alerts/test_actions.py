"""What people do to alerts: each thing once, in the log and the history, with who and why; nonsense is refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import redis

from alerts import actions, silences
from alerts.actions import MAX_STEPS, ActionError, Actions
from alerts.alert import Alert
from alerts.life import AlertView
from alerts.matchers import parse
from alerts.silences import Silence
from alerts.store import AlertStore

NOW = 1_700_000_000.0
AT = datetime.fromtimestamp(NOW, UTC)
HOUR = timedelta(hours=1)


class Desk:
    """An analyst with a clock that tests move."""

    def __init__(self, store: redis.Redis) -> None:
        self.now = NOW
        self.redis = store
        self.alerts = AlertStore(store)
        self.actions = Actions(store, lambda: self.now)

    def view(self, alert: Alert) -> AlertView:
        view = self.alerts.view(alert.id)
        assert view is not None
        return view

    def events(self, alert: Alert) -> list[str]:
        return [step.event for step in self.view(alert).transitions]


@pytest.fixture
def desk(store: redis.Redis) -> Desk:
    return Desk(store)


@pytest.fixture
def warning(desk: Desk, alert: Alert) -> Alert:
    """A stored alert of the lesser severity."""
    made = msgspec.structs.replace(alert, severity="warning")
    assert desk.alerts.put(made)
    return made


@pytest.fixture
def silence() -> Callable[..., Silence]:
    def make(matchers: str = "company=SIVB", **fields: Any) -> Silence:
        plain: dict[str, Any] = {"starts_at": AT, "ends_at": AT + HOUR, "author": "anna", "reason": "known"}
        given = {"id": "s1", "created_at": AT, **plain, **fields}
        return Silence(matchers=parse(matchers), **given)

    return make


def next_revision(alert: Alert, **fields: Any) -> Alert:
    return msgspec.structs.replace(alert, **{"revision": alert.revision + 1, **fields})


def test_an_alert_is_acknowledged_with_who_and_why(desk: Desk, warning: Alert) -> None:
    step = desk.actions.acknowledge(warning.id, "anna", "calling the bank")
    view = desk.view(warning)
    assert view.transitions[-1] == step == desk.alerts.log(1)[0]
    assert (view.life.state, view.life.actor, view.life.reason, view.life.since) == (
        "acknowledged", "anna", "calling the bank", AT,
    )  # fmt: skip
    assert view.alert == warning
    assert [each.life.state for each in desk.alerts.views()] == ["acknowledged"]


def test_what_a_key_names_happens_once(desk: Desk, warning: Alert) -> None:
    first = desk.actions.acknowledge(warning.id, "anna", key="click-1")
    desk.actions.unacknowledge(warning.id, "ben")
    assert desk.actions.acknowledge(warning.id, "anna", key="click-1") == first
    assert desk.events(warning) == ["firing", "acknowledged", "unacknowledged"]


def test_what_cannot_be_is_refused_in_plain_words(desk: Desk, warning: Alert) -> None:
    with pytest.raises(ActionError, match="no alert nothing"):
        desk.actions.acknowledge("nothing", "anna")
    with pytest.raises(ActionError, match="SIVB: the alert is not acknowledged"):
        desk.actions.unacknowledge(warning.id, "anna")
    desk.actions.acknowledge(warning.id, "anna")
    with pytest.raises(ActionError, match="was acknowledged by anna at 2023-11-14 22:13 UTC"):
        desk.actions.acknowledge(warning.id, "ben")
    desk.actions.resolve(warning.id, "ben")
    for act in (desk.actions.acknowledge, desk.actions.unacknowledge, desk.actions.resolve):
        with pytest.raises(ActionError, match="was resolved by ben"):
            act(warning.id, "anna")
    with pytest.raises(ActionError, match="who it is"):
        desk.actions.resolve(warning.id, " ")
    assert desk.events(warning) == ["firing", "acknowledged", "resolved"]


def test_one_resolved_by_hand_stays_so_unless_it_grows(desk: Desk, warning: Alert) -> None:
    desk.actions.resolve(warning.id, "anna", "old news")
    more = next_revision(warning, explains=3)
    assert desk.alerts.put(more) == ()
    assert desk.alerts.views() == []
    assert [alert.id for alert in desk.alerts.open()] == [warning.id]  # its detector goes on
    worse = next_revision(more, severity="critical")
    desk.alerts.put(worse)
    view = desk.view(warning)
    assert (view.life.state, view.life.severity, view.transitions[-1].event) == ("firing", "critical", "reopened")
    desk.alerts.put(next_revision(worse, status="resolved"))
    assert desk.events(warning) == ["firing", "resolved", "reopened", "resolved"]
    assert desk.alerts.open() == []


def test_the_end_of_an_episode_that_was_resolved_by_hand_is_no_news(desk: Desk, warning: Alert) -> None:
    desk.actions.resolve(warning.id, "anna")
    assert desk.alerts.put(next_revision(warning, status="resolved")) == ()
    assert desk.events(warning) == ["firing", "resolved"]


def test_what_was_acknowledged_fires_again_when_it_grows(desk: Desk, warning: Alert) -> None:
    desk.actions.acknowledge(warning.id, "anna")
    assert desk.alerts.put(next_revision(warning)) == ()
    (step,) = desk.alerts.put(next_revision(warning, revision=3, severity="critical")) or ()
    assert (step.event, step.cause, step.state, step.severity) == ("escalated", "severity", "firing", "critical")
    assert "warning to critical" in step.reason


def test_a_severity_that_falls_back_is_not_told(desk: Desk, alert: Alert) -> None:
    desk.alerts.put(alert)
    desk.alerts.put(next_revision(alert, severity="warning"))
    assert desk.events(alert) == ["firing"]
    assert desk.view(alert).life.severity == "critical"


def test_an_alert_that_moves_says_where_to(desk: Desk, warning: Alert) -> None:
    (step,) = desk.alerts.put(next_revision(warning, series="topic=Liquidity", name="Liquidity")) or ()
    assert (step.event, step.series, step.state) == ("moved", "topic=Liquidity", "firing")


def test_the_same_revision_again_changes_nothing(desk: Desk, warning: Alert) -> None:
    assert desk.alerts.put(warning) is None
    assert desk.alerts.put(msgspec.structs.replace(warning, revision=0)) is None
    assert desk.events(warning) == ["firing"]


def test_a_silence_lies_over_what_it_matches_until_it_is_ended(
    desk: Desk, warning: Alert, silence: Callable[..., Silence]
) -> None:
    other = msgspec.structs.replace(warning, id="b" * 32, series="company=XYZ", name="XYZ")
    desk.alerts.put(other)
    (step,) = desk.actions.silence(silence(), "anna")
    assert (step.event, step.alert, step.silenced, step.state) == ("silenced", warning.id, True, "firing")
    assert (step.actor, step.reason, step.silence) == ("anna", "known", "s1")
    assert desk.actions.silence(silence(), "anna") == ()
    assert desk.actions.acknowledge(warning.id, "ben").silenced
    (step,) = desk.actions.expire_silence("s1", "ben")
    assert (step.event, step.alert, step.silenced, step.state) == ("unsilenced", warning.id, False, "acknowledged")
    assert step.actor == "ben"
    assert desk.events(other) == ["firing"]
    with pytest.raises(ActionError, match="ended at"):
        desk.actions.expire_silence("s1", "ben")


def test_a_silence_may_lie_ahead(desk: Desk, warning: Alert, silence: Callable[..., Silence]) -> None:
    assert desk.actions.silence(silence(starts_at=AT + HOUR, ends_at=AT + 2 * HOUR), "anna") == ()
    assert desk.events(warning) == ["firing"]


def test_the_end_of_one_silence_under_another_is_no_news(
    desk: Desk, warning: Alert, silence: Callable[..., Silence]
) -> None:
    desk.actions.silence(silence(), "anna")
    assert desk.actions.silence(silence("severity=warning", id="s2"), "ben") == ()
    assert desk.actions.expire_silence("s1", "anna") == ()
    (step,) = desk.actions.expire_silence("s2", "ben")
    assert (step.event, step.alert) == ("unsilenced", warning.id)


def test_an_alert_born_under_a_silence_is_silenced_from_its_first_line(desk: Desk, alert: Alert) -> None:
    steps = desk.alerts.put(alert, silence="s1") or ()
    assert [(step.event, step.silenced) for step in steps] == [("firing", True), ("silenced", True)]
    assert desk.view(alert).life.silence == "s1"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"matchers": ()}, "needs a matcher"),
        ({"matchers": parse('company=~".*"')}, "that an empty label does not match"),
        ({"matchers": parse("company=, severity!=critical")}, 'company="", severity!="critical" would lie over'),
        ({"reason": " "}, "author and a reason"),
        ({"author": ""}, "author and a reason"),
        ({"starts_at": AT + 2 * HOUR, "ends_at": AT + HOUR}, "end after it begins"),
        ({"ends_at": AT}, "would have ended"),
        ({"starts_at": AT - 2 * HOUR, "ends_at": AT - HOUR}, "would have ended"),
        ({"id": ""}, "needs an id"),
        ({"reason": "x" * 3_000}, "at most"),
    ],
)
def test_a_silence_that_makes_no_sense_is_refused(
    desk: Desk, silence: Callable[..., Silence], fields: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ActionError, match=problem):
        desk.actions.silence(msgspec.structs.replace(silence(), **fields), "anna")


def test_an_id_stands_for_one_silence(desk: Desk, silence: Callable[..., Silence]) -> None:
    desk.actions.silence(silence(), "anna")
    with pytest.raises(ActionError, match="another silence"):
        desk.actions.silence(silence("topic=Earnings"), "anna")
    with pytest.raises(ActionError, match="no silence s2"):
        desk.actions.expire_silence("s2", "anna")


def test_an_alert_takes_a_bounded_number_of_steps_by_hand(desk: Desk, warning: Alert) -> None:
    for _ in range(MAX_STEPS // 2):
        desk.actions.acknowledge(warning.id, "anna")
        desk.actions.unacknowledge(warning.id, "anna")
    with pytest.raises(ActionError, match="no more by hand"):
        desk.actions.acknowledge(warning.id, "anna")
    assert desk.view(warning).life.transitions == 1 + MAX_STEPS


def test_nobody_acts_under_the_name_of_what_nobody_did(
    desk: Desk, warning: Alert, silence: Callable[..., Silence]
) -> None:
    desk.actions.silence(silence(), "anna")
    for act in (
        lambda: desk.actions.acknowledge(warning.id, "Newsquake"),
        lambda: desk.actions.silence(silence(id="s2", author="newsquake "), "anna"),
        lambda: desk.actions.expire_silence("s1", "NEWSQUAKE"),
    ):
        with pytest.raises(ActionError, match="by hand"):
            act()
    assert desk.events(warning) == ["firing", "silenced"]


def test_silences_take_nobodys_steps(desk: Desk, warning: Alert, silence: Callable[..., Silence]) -> None:
    for number in range(150):
        desk.actions.silence(silence(id=f"s{number}"), "ben")
        desk.actions.expire_silence(f"s{number}", "ben")
    assert desk.view(warning).life.transitions == 301
    assert desk.actions.acknowledge(warning.id, "anna").state == "acknowledged"


def test_people_at_the_same_moment_lose_no_step(desk: Desk, warning: Alert, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the reading and the writing of one, another was faster."""
    real, others = AlertStore._read, iter(range(3))

    def read(self: AlertStore, alert_id: str) -> Any:
        found = real(self, alert_id)
        if next(others, None) is not None:
            monkeypatch.setattr(AlertStore, "_read", real)
            view = desk.alerts.view(alert_id)
            assert view is not None
            if view.life.state == "firing":
                desk.actions.acknowledge(alert_id, "ben")
            monkeypatch.setattr(AlertStore, "_read", read)
        return found

    monkeypatch.setattr(AlertStore, "_read", read)
    with pytest.raises(ActionError, match="acknowledged by ben"):
        desk.actions.acknowledge(warning.id, "anna")
    monkeypatch.setattr(AlertStore, "_read", real)
    assert desk.events(warning) == ["firing", "acknowledged"]


def test_time_is_that_of_the_items_where_alerting_says_so(desk: Desk) -> None:
    assert desk.actions.now() == AT
    desk.redis.set("nq:{alerts}:now_s", "1600000000")
    assert desk.actions.now() == datetime.fromtimestamp(1_600_000_000, UTC)


def test_an_alert_that_cannot_be_read_hides_no_other(
    desk: Desk, warning: Alert, caplog: pytest.LogCaptureFixture
) -> None:
    other = msgspec.structs.replace(warning, id="other")
    desk.alerts.put(other)
    desk.redis.set("nq:{alerts}:alert:other", b'{"schema": 99}')
    assert desk.alerts.open() == [warning]
    assert [view.alert for view in desk.alerts.views()] == [warning]
    assert desk.alerts.view("other") is None
    assert "alert other cannot be read" in caplog.text
    desk.redis.set("nq:{alerts}:life:other", b"?")
    assert [life.alert for life in desk.alerts.lives()] == [warning.id]
    desk.actions.acknowledge(warning.id, "anna")


def test_silences_are_bounded_in_number_and_what_has_ended_makes_room(
    desk: Desk, silence: Callable[..., Silence], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "MAX_SILENCES", 2)
    for id_ in ("a", "b"):
        desk.actions.silence(silence(id=id_), "anna")
    with pytest.raises(ActionError, match="2 silences that hold or lie ahead"):
        desk.actions.silence(silence(id="c"), "anna")
    desk.actions.silence(silence(id="a"), "anna")  # the same again is none more
    desk.actions.expire_silence("a", "anna")
    desk.actions.silence(silence(id="c"), "anna")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"ends_at": AT + timedelta(days=367)}, "within 366 days"),
        ({"matchers": parse(",".join(f'company!="C{n}"' for n in range(21)))}, "at most 20 matchers"),
        ({"matchers": parse(",".join(f'company="{"C" * 900}"' for _ in range(3)))}, "2,000 characters"),
    ],
)
def test_silences_are_bounded_in_length(
    desk: Desk, silence: Callable[..., Silence], fields: dict[str, Any], why: str
) -> None:
    with pytest.raises(ActionError, match=why):
        desk.actions.silence(msgspec.structs.replace(silence(), **fields), "anna")


def test_silences_are_read_once_a_change(
    store: redis.Redis, silence: Callable[..., Silence], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []
    real = silences._read
    monkeypatch.setattr(silences, "_read", lambda id_, raw: (read.append(raw), real(id_, raw))[1])
    held = silences.Silences(store)
    one, two = silence(id="a"), silence(id="b", ends_at=AT + 2 * HOUR)
    for each in (one, two):
        held.put(each)
    store.hset(silences.KEY, "c", b"of another version")
    assert held.all() == held.all() == [two, one]
    assert len(read) == 3
    later = msgspec.structs.replace(one, ends_at=AT + 3 * HOUR)
    silences.Silences(store).put(later)
    assert held.all() == held.all() == [later, two]
    assert len(read) == 4
    held.drop(["a"])
    assert held.all() == [two]
