"""A deed on the desk and its entry in the audit log: both or neither, at whatever call the desk is killed."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from redis import Connection, ConnectionPool, Redis
from redis.exceptions import RedisError, ResponseError

from alerts.actions import Actions
from alerts.alert import Alert
from alerts.audit import Audit
from alerts.desk.auth import Identity
from alerts.desk.deeds import Deeds, matchers_of
from alerts.desk.settings import DeskSettings
from alerts.desk.state import Desk
from alerts.desk.stream import Stream
from alerts.silences import Silences
from alerts.store import AlertStore

NAME = "jo"
HOUR = timedelta(hours=1)


class KilledError(BaseException):
    """The process is no more."""


class _Fragile(Connection):
    """A connection whose process dies at its n-th call, before it is sent or, with `sent`, after."""

    calls_left = 10**9
    sent = False

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        kind = type(self)
        kind.calls_left -= 1
        if kind.calls_left == 0 and not kind.sent:
            raise KilledError
        super().send_packed_command(command, check_health)
        if kind.calls_left == 0:
            with contextlib.suppress(ResponseError):
                self.read_response()  # the server has done it
            raise KilledError


def _deeds(redis: Redis, *, ranking: bool = True) -> Deeds:
    desk = Desk(
        DeskSettings(ranking=ranking),
        redis,
        CollectorRegistry(),
        stream=Stream(None, "scored"),
        processes={},
        sentiments=("negative", "neutral"),
        topics=("Liquidity", "Earnings"),
    )
    return Deeds(desk, Identity(name=NAME, role="analyst"), "127.0.0.1")


def _silenced(deeds: Deeds) -> str:
    return deeds.silence(matchers_of("company=JPM"), HOUR, "known", None).id


DEEDS: dict[str, Callable[[Deeds, str], object]] = {
    "acknowledge": lambda deeds, alert: deeds.change("acknowledge", alert, "mine"),
    "resolve": lambda deeds, alert: deeds.change("resolve", alert, "over"),
    "reopen": lambda deeds, alert: deeds.change("reopen", alert, "the wrong one"),
    "note": lambda deeds, alert: deeds.note(alert, "they know"),
    "silence": lambda deeds, _: _silenced(deeds),
    "silence of an alert": lambda deeds, alert: deeds.silence_alert(alert, HOUR, "known"),
    "verdict": lambda deeds, alert: deeds.judge(alert, "useful"),
    "label": lambda deeds, alert: deeds.correct(alert, 0, "", "topic", "Earnings"),
    "dismiss": lambda deeds, alert: deeds.dismiss(alert),
}


def _done(redis: Redis, what: str, alert: str) -> bool:
    """Say whether a deed has been done, by what it leaves."""
    view = AlertStore(redis).view(alert)
    assert view is not None
    if what == "dismiss":
        return bool(redis.hexists(f"nq:{{desk}}:acts:{NAME}", alert))
    if what.startswith("silence"):
        return bool(redis.hlen("nq:{alerts}:silences"))
    if what in ("verdict", "label"):
        return bool(redis.exists(f"nq:{{desk}}:said:{alert}"))
    return view.transitions[-1].actor == NAME


class _Killing:
    """A client of the same server that is killed at the n-th call of a block; no hand-shake counts."""

    def __init__(self, store: Redis, sent: bool) -> None:
        self.connection = type("Fragile", (_Fragile,), {"calls_left": 10**9, "sent": sent})
        self.pool = ConnectionPool(connection_class=self.connection, **store.connection_pool.connection_kwargs)
        self.redis = Redis(connection_pool=self.pool)

    @contextlib.contextmanager
    def at(self, call: int) -> Iterator[list[int]]:
        """Give a list that is empty unless it was killed."""
        killed: list[int] = []
        self.redis.ping()
        self.connection.calls_left = call
        try:
            yield killed
        except KilledError:
            killed.append(call)
            self.pool.disconnect()
        finally:
            self.connection.calls_left = 10**9


@pytest.fixture
def killing(store: Redis) -> Iterator[Callable[[bool], _Killing]]:
    made: list[_Killing] = []

    def make(sent: bool) -> _Killing:
        made.append(_Killing(store, sent))
        return made[-1]

    yield make
    for each in made:
        each.pool.disconnect()


@pytest.mark.parametrize("sent", [False, True], ids=["before the call", "after it"])
@pytest.mark.parametrize("what", DEEDS)
def test_killed_at_any_call_a_deed_and_its_entry_stand_together(
    store: Redis, put: Callable[..., Alert], killing: Callable[[bool], _Killing], what: str, sent: bool
) -> None:
    killer, calls = killing(sent), itertools.count(1)
    undone = 0
    killed = [0]
    while killed:
        store.flushall()
        alert = put()
        if what == "reopen":
            Actions(store).resolve(alert.id, "ben")
        with killer.at(next(calls)) as killed:
            DEEDS[what](_deeds(killer.redis), alert.id)
        entries = [entry.what for entry in Audit(store).last()]
        assert len(entries) == _done(store, what, alert.id)
        undone += not entries
    assert entries
    assert undone


@pytest.mark.parametrize("sent", [False, True], ids=["before the call", "after it"])
@pytest.mark.parametrize("what", ["expire_silence", "change_silence"])
def test_another_end_of_a_silence_and_its_entry_stand_together(
    store: Redis, put: Callable[..., Alert], killing: Callable[[bool], _Killing], what: str, sent: bool
) -> None:
    killer, calls = killing(sent), itertools.count(1)
    put()
    ends = 0
    killed = [0]
    while killed:
        silence = _silenced(_deeds(store))
        with killer.at(next(calls)) as killed:
            deeds = _deeds(killer.redis)
            deeds.expire(silence) if what == "expire_silence" else deeds.change_silence(silence, 2 * HOUR)
        found = Silences(store).get(silence)
        assert found is not None
        ends += found.revision
        assert sum(entry.what == what for entry in Audit(store).last()) == ends
    assert ends > 0


def test_what_is_done_is_said_to_be_done_though_nothing_can_be_learnt_from_it(
    store: Redis, put: Callable[..., Alert], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise RedisError("away")

    deeds, alert = _deeds(store), put()
    monkeypatch.setattr(deeds._desk.ranking, "note", away)
    monkeypatch.setattr(deeds._desk.store, "views", lambda **_: away())
    with pytest.raises(RedisError):
        deeds.silence_alert(alert.id, HOUR, "known")
    assert not _done(store, "silence", alert.id)
    monkeypatch.undo()
    monkeypatch.setattr(deeds._desk.ranking, "note", away)
    assert deeds.silence_alert(alert.id, HOUR, "known").over == 1
    with pytest.raises(RedisError):
        deeds.dismiss(alert.id)


def test_what_is_refused_has_no_entry_and_a_deed_without_ranking_has(store: Redis, put: Callable[..., Alert]) -> None:
    alert, deeds = put(), _deeds(store, ranking=False)
    deeds.change("resolve", alert.id, "")
    with pytest.raises(Exception, match="was resolved by jo"):
        deeds.change("acknowledge", alert.id, "")
    deeds.dismiss(alert.id)
    assert [entry.what for entry in Audit(store).last()] == ["dismiss", "resolve"]
