"""A silence is laid or it is not, and who asks again for want of an answer lays no second one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import msgspec
import pytest
from redis import Redis
from redis.exceptions import ConnectionError as LostError

from alerts.actions import ActionError, Actions
from alerts.alert import Alert
from alerts.audit import Audit, entry
from alerts.matchers import Matcher
from alerts.silences import Silence, Silences, lay_silences, same_again
from alerts.store import AlertStore, BusyError

AT = datetime(2026, 3, 9, 18, 4, tzinfo=UTC)
BODY = {"matchers": "company=SIVB", "minutes": 60, "reason": "known"}


def _silence(**fields: Any) -> Silence:
    plain: dict[str, Any] = {"id": "s1", "author": "jo", "reason": "known", "created_at": AT}
    times = {"starts_at": AT, "ends_at": AT + timedelta(hours=1)}
    return Silence(matchers=(Matcher("company", "=", "SIVB"),), **{**plain, **times, **fields})


@pytest.mark.parametrize("failure", [LostError("gone"), BusyError("others are faster")])
def test_what_is_stored_is_not_said_to_have_failed_and_the_leader_does_the_rest(
    store: Redis, put: Callable[..., Alert], monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def lost(*_: object) -> None:
        raise failure

    alert, actions, alerts = put(), Actions(store, AT.timestamp), AlertStore(store)
    with monkeypatch.context() as patch:
        patch.setattr("alerts.actions.lay_silences", lost)
        assert actions.silence(_silence(), "jo", entry("jo", "silence", target="s1")) == ()
    assert Silences(store).get("s1") == _silence()
    (laid,) = lay_silences(alerts, Silences(store).all(), AT)  # as the leader's timers do
    assert (laid.alert, laid.event, laid.actor, laid.reason) == (alert.id, "silenced", "jo", "known")
    assert actions.silence(_silence(), "jo", entry("jo", "silence", target="s1")) == ()
    with monkeypatch.context() as patch:
        patch.setattr("alerts.actions.lay_silences", lost)
        assert actions.expire_silence("s1", "jo", entry("jo", "expire_silence", target="s1")) == ()
    assert [each.event for each in lay_silences(alerts, Silences(store).all(), AT)] == ["unsilenced"]
    assert [each.what for each in Audit(store).last()] == ["expire_silence", "silence"]


def test_a_silence_whose_answer_was_lost_is_the_same_when_it_is_asked_for_again(
    served: Any, put: Callable[..., Alert], store: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    alert = put()
    usual = Silences.add

    def lost(silences: Silences, *args: Any) -> None:
        usual(silences, *args)
        raise LostError("the answer does not come")

    with monkeypatch.context() as patch:
        patch.setattr(Silences, "add", lost)
        answer = served.client.post("/api/v1/silences", json=BODY)
    assert answer.status_code == 503
    assert "done or not" in answer.json()["detail"]
    again = [served.client.post("/api/v1/silences", json=BODY).json() for _ in range(2)]
    (laid,) = served.client.get("/api/v1/silences").json()["silences"]
    assert [each["id"] for each in again] == [laid["id"]] * 2
    assert [each["over"] for each in again] == [1, 1]
    assert [each.what for each in Audit(store).last()] == ["silence"]
    for _ in range(2):
        path = f"/api/v1/alerts/{alert.id}/silence"
        served.client.post(path, json={"minutes": 30, "reason": "known"})
    assert len(served.client.get("/api/v1/silences").json()["silences"]) == 2


def test_one_that_was_ended_or_is_another_is_laid(served: Any, put: Callable[..., Alert]) -> None:
    put()
    first = served.client.post("/api/v1/silences", json=BODY).json()["id"]
    assert served.client.delete(f"/api/v1/silences/{first}").status_code == 204
    second = served.client.post("/api/v1/silences", json=BODY).json()["id"]
    others = [{"minutes": 61}, {"reason": "else"}, {"matchers": "company=JPM"}, {"starts_at": "2099-01-01T00:00:00Z"}]
    found = [served.client.post("/api/v1/silences", json=BODY | other) for other in others]
    ids = [answer.json()["id"] for answer in found if answer.status_code == 200]
    assert len({first, second, *ids}) == 2 + 3
    assert [answer.status_code for answer in found] == [200, 200, 200, 409]  # so far ahead none may end


def test_what_is_the_same_again() -> None:
    """By hand the beginning is when it came; one that was named must be the same."""
    known = [_silence()]
    at = AT + timedelta(seconds=90)
    later = _silence(id="s2", starts_at=at, ends_at=at + timedelta(hours=1), created_at=at)
    assert same_again(known, later, from_now=True) == known[0]
    assert same_again(known, later, from_now=False) is None
    assert same_again(known, _silence(id="s2"), from_now=False) == known[0]
    at = AT + timedelta(minutes=3)
    much_later = _silence(id="s2", starts_at=at, ends_at=at + timedelta(hours=1), created_at=at)
    assert same_again(known, much_later, from_now=True) is None
    planned = _silence(id="s2", created_at=AT - timedelta(seconds=90))
    early = {"starts_at": AT - timedelta(seconds=90), "ends_at": AT + timedelta(minutes=58, seconds=30)}
    assert same_again(known, msgspec.structs.replace(planned, **early), from_now=True) is None  # it holds not yet
    assert same_again(known, _silence(id="s2", author="ann"), from_now=True) is None
    for seconds, again in ((9, known[0]), (11, None)):  # another process has laid it at the same moment
        at = AT - timedelta(seconds=seconds)
        wanted = _silence(id="s2", starts_at=at, ends_at=at + timedelta(hours=1), created_at=at)
        assert same_again(known, wanted, from_now=True) == again
    assert same_again(known, _silence(id="s2", created_at=AT + timedelta(hours=2)), from_now=False) is None
    short = _silence(ends_at=AT + timedelta(minutes=1))
    for seconds, again in ((5, short), (55, None)):  # what is laid is not to end well before what was asked for
        at = AT + timedelta(seconds=seconds)
        wanted = _silence(id="s2", starts_at=at, ends_at=at + timedelta(minutes=1), created_at=at)
        assert same_again([short], wanted, from_now=True) == again


def test_a_call_that_its_client_repeats_is_written_down_once(store: Redis) -> None:
    silences, note = Silences(store), entry("jo", "silence", target="s1")
    for _ in range(3):
        silences.put(_silence(), note)
    silences.put(_silence(ends_at=AT), entry("jo", "expire_silence", target="s1"))
    assert [each.what for each in Audit(store).last()] == ["expire_silence", "silence"]


@pytest.mark.parametrize("way", ["silences", "alert"])
def test_two_who_ask_for_the_same_at_the_same_moment_lay_one(
    served: Any, put: Callable[..., Alert], store: Redis, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Between the reading and the writing of one request, which another process may answer, the other is answered."""
    alert, usual = put(), Silences.all
    body = BODY if way == "silences" else {"minutes": 60, "reason": "known"}
    path = "silences" if way == "silences" else f"alerts/{alert.id}/silence"
    answers = []

    def read(silences: Silences) -> Any:
        found = usual(silences)
        if not answers:
            answers.append(None)
            answers[0] = served.client.post(f"/api/v1/{path}", json=body)
        return found

    monkeypatch.setattr(Silences, "all", read)
    answers.append(served.client.post(f"/api/v1/{path}", json=body))
    monkeypatch.undo()
    assert [each.status_code for each in answers] == [200, 200]
    (laid,) = Silences(store).all()
    assert {each.json()["id"] for each in answers} == {laid.id}
    assert [each.what for each in Audit(store).last()] == ["silence"]


def test_at_the_same_moment_no_more_are_laid_than_may_be(store: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alerts.actions.MAX_SILENCES", 2)
    actions, usual = Actions(store, AT.timestamp), Silences.all
    actions.silence(_silence(id="s0"), "jo")

    def read(silences: Silences) -> Any:
        found = usual(silences)
        monkeypatch.setattr(Silences, "all", usual)
        actions.silence(_silence(id="s1"), "jo")
        return found

    monkeypatch.setattr(Silences, "all", read)
    with pytest.raises(ActionError, match="there are 2 silences"):
        actions.silence(_silence(id="s2"), "jo")
    assert {each.id for each in Silences(store).all()} == {"s0", "s1"}


def test_where_others_lay_silences_all_the_time_it_is_said(store: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    usual, number = Silences.all, count()

    def read(silences: Silences) -> Any:
        found = usual(silences)
        silences.put(_silence(id=f"other-{next(number)}"))
        return found

    monkeypatch.setattr(Silences, "all", read)
    with pytest.raises(ActionError, match="laid and ended by others all the time"):
        Actions(store, AT.timestamp).silence(_silence(), "jo")
    assert Silences(store).get("s1") is None


def test_what_was_made_before_a_failure_is_returned(
    store: Redis, put: Callable[..., Alert], monkeypatch: pytest.MonkeyPatch
) -> None:
    alerts, usual = [put(minutes_ago=minutes) for minutes in (3, 4)], AlertStore._together
    done: list[str] = []

    def together(alerts_: AlertStore, ids: Sequence[str], *args: Any) -> Any:
        if done:
            raise LostError("gone")
        done.extend(ids)
        return usual(alerts_, ids, *args)

    with monkeypatch.context() as patch:
        patch.setattr("alerts.store._TOGETHER", 1)
        patch.setattr(AlertStore, "_together", together)
        (laid,) = Actions(store, AT.timestamp).silence(_silence(), "jo")
    assert [laid.alert] == done
    (other,) = lay_silences(AlertStore(store), Silences(store).all(), AT)
    assert {laid.alert, other.alert} == {alert.id for alert in alerts}


def test_what_was_made_behind_a_failure_is_returned_too(
    store: Redis, put: Callable[..., Alert], monkeypatch: pytest.MonkeyPatch
) -> None:
    alerts = [put(minutes_ago=minutes) for minutes in (3, 4, 5)]
    usual = AlertStore._call

    def call(alerts_: AlertStore, view: Any, before: bytes, alert: Alert, *args: Any) -> Any:
        keys, arguments = usual(alerts_, view, before, alert, *args)
        if alert.id == sorted(each.id for each in alerts)[1]:
            arguments[7] = "soon"  # no time to live: the script fails
        return keys, arguments

    with monkeypatch.context() as patch:
        patch.setattr(AlertStore, "_call", call)
        made = Actions(store, AT.timestamp).silence(_silence(), "jo")
    stored = {each.id for each in alerts if (view := AlertStore(store).view(each.id)) and view.life.silence}
    assert len(stored) == 2
    assert {step.alert for step in made} == stored
