"""What people do to alerts, by the desk, the API or the command line: all of it goes through `Actions`."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from redis.exceptions import RedisError

from alerts.audit import Entry
from alerts.ends import End, after
from alerts.life import (
    SYSTEM,
    SYSTEM_REFUSED,
    AlertView,
    Event,
    State,
    Transition,
    changed,
    if_resolved,
    is_system,
    not_reopened,
    shown,
)
from alerts.notes import MAX_NOTE, MAX_NOTES, cleaned
from alerts.silences import Asked, Silence, Silences, changed_already, lay_silences, with_end
from alerts.store import AlertStore, BusyError

if TYPE_CHECKING:
    from redis import Redis

log = logging.getLogger(__name__)

MAX_STEPS = 200
"""Steps that people may take with one alert, silences aside: its history must stay readable, and bounded."""
NOTED_AGAIN = timedelta(minutes=5)
"""How long the same note of the same person is one that was sent twice."""
_BY_HAND = ("acknowledged", "unacknowledged", "resolved", "reopened")
_MAX_TEXT, _MAX_ID = 500, 200
MAX_SILENCES, MAX_SILENCE = 1_000, timedelta(days=366)
"""Silences that hold or lie ahead, and how far ahead one may end: each is asked about every open alert, each second."""
_MAX_MATCHERS, _MAX_MATCHED = 20, 2_000


Same = Callable[[Iterable[Silence], Silence], Silence | None]
"""Finds among silences the one that was laid for the same as another."""


class ActionError(ValueError):
    """What was asked cannot be done; the message says why, in plain words. `alert` is the id of one that it names."""

    def __init__(self, why: str, *, alert: str = "") -> None:
        super().__init__(why)
        self.alert = alert


class Laying(NamedTuple):
    """What came of silences that were to be laid: of each the one that stands for it, or why it cannot be laid."""

    silences: list[Silence | ActionError]
    made: tuple[Transition, ...]


class Actions:
    """Acts for people. Every method raises `redis.RedisError` when the server cannot answer.

    A `key` that the caller gives makes an action safe to repeat: under one key it happens once, and the transition of
    then is returned. A `note` goes into the audit log in the same call as what it tells of, or not at all.
    """

    def __init__(self, redis: Redis, clock: Callable[[], float] = time.time) -> None:
        self._redis = redis
        self._clock = clock
        self._store = AlertStore(redis)
        self._silences = Silences(redis)

    def now(self) -> datetime:
        """Return the time that alerting goes by."""
        now_s = self._store.load_time()
        return datetime.fromtimestamp(self._clock() if now_s is None else now_s, UTC)

    def acknowledge(
        self, alert_id: str, actor: str, reason: str = "", key: str | None = None, note: Entry | None = None
    ) -> Transition:
        """Somebody is on it: it is told no more, unless it grows by a severity.

        Raises:
            ActionError: there is no such alert, it is resolved or acknowledged.
        """

        def problem(view: AlertView) -> str:
            if view.life.state == "acknowledged":
                return f"was acknowledged by {view.life.actor} at {shown(view.life.since)}"
            return if_resolved(view)

        return self._act(alert_id, "acknowledged", "acknowledged", problem, actor, reason, key, note)

    def unacknowledge(
        self, alert_id: str, actor: str, reason: str = "", key: str | None = None, note: Entry | None = None
    ) -> Transition:
        """Nobody is on it any more: it fires, as before.

        Raises:
            ActionError: there is no such alert, or it is not acknowledged.
        """

        def problem(view: AlertView) -> str:
            return if_resolved(view) or ("" if view.life.state == "acknowledged" else "is not acknowledged")

        return self._act(alert_id, "unacknowledged", "firing", problem, actor, reason, key, note)

    def resolve(
        self, alert_id: str, actor: str, reason: str = "", key: str | None = None, note: Entry | None = None
    ) -> Transition:
        """It is over for people, whatever its detector says, unless it grows by a severity or somebody reopens it.

        Raises:
            ActionError: there is no such alert, or it is resolved.
        """
        return self._act(alert_id, "resolved", "resolved", if_resolved, actor, reason, key, note)

    def reopen(
        self, alert_id: str, actor: str, reason: str = "", key: str | None = None, note: Entry | None = None
    ) -> Transition:
        """Take back that somebody resolved it: it fires, and who was told of its end is told so.

        Raises:
            ActionError: there is no such alert, it cannot be reopened (`not_reopened`), or another alert on its series
                is open, which the error names.
        """

        def problem(view: AlertView) -> str:
            if why := not_reopened(view, self.now(), sure=self._store.is_sure(view)):
                return why
            series = view.alert.series
            for other in self._store.open(reopened=True):  # two would tell of one thing, and be resolved one by one
                if other.series == series and other.id != view.alert.id:
                    why = f"{view.alert.name}: another alert tells of {series} since {shown(other.started_at)}"
                    raise ActionError(f"{why}: look at that one ({other.id})", alert=other.id)
            return ""

        return self._act(alert_id, "reopened", "firing", problem, actor, reason, key, note)

    def annotate(
        self, alert_id: str, actor: str, text: str, key: str | None = None, note: Entry | None = None
    ) -> Transition:
        """Write a note on an alert, whatever its state, for all who look at it.

        Written once more, by who got no answer, it is the same one.

        Raises:
            ActionError: there is no such alert, the note is empty or too long, or the alert has as many as it may.
        """
        text = cleaned(text)
        if not text or len(text) > MAX_NOTE:
            raise ActionError(f"a note has 1 to {MAX_NOTE} characters that can be seen")

        def problem(view: AlertView) -> str:
            full = sum(step.event == "noted" for step in view.transitions) >= MAX_NOTES
            return f"has {MAX_NOTES} notes; there is no room for more" if full else ""

        def again(step: Transition) -> bool:
            same = (step.event, step.actor, step.reason) == ("noted", actor, text)
            return same and self.now() - step.at <= NOTED_AGAIN

        return self._act(alert_id, "noted", None, problem, actor, text, key, note, again)

    def silence(self, silence: Silence, actor: str, note: Entry | None = None) -> tuple[Transition, ...]:
        """Lay a silence over what it matches; return the transitions of open alerts, when it holds already.

        The same silence again changes nothing. Once it is stored it is laid, though Redis fail then: the leader makes
        the transitions that are lacking.

        Raises:
            ActionError: it has no matcher, reason or author, ends before it begins or in the past, is too long in any
                way, its id is taken, or there are too many.
        """
        (found,), made = self.lay([Asked(silence, note)], actor)
        if isinstance(found, ActionError):
            raise found
        return made

    def lay(
        self,
        wanted: Sequence[Asked],
        actor: str,
        same: Same = lambda known, silence: None,
    ) -> Laying:
        """Lay several silences in one go; one that cannot be laid keeps none of the others from it.

        `same` finds among those that hold or lie ahead one that has been laid for the same already, by others at the
        same moment, too. Each is stored with its entry of the audit log, or none is.

        Raises:
            ActionError: nobody may act under that name, or others lay silences all the time.
        """
        _check_name(actor)
        now = self.now()
        found: list[Silence | ActionError] = []

        def choose(known: list[Silence]) -> list[Asked]:
            found.clear()
            there, new = list(known), list[Asked]()
            for asked in wanted:
                try:
                    stands = _standing(asked.silence, there, now, same)
                except ActionError as exc:
                    found.append(exc)
                    continue
                if stands is None:
                    new.append(asked)
                    there.append(asked.silence)
                found.append(stands or asked.silence)
            return new

        self._store_silences(choose)
        laid = {each.id: (actor, each.reason) for each in found if isinstance(each, Silence)}
        return Laying(found, self._over(laid, now) if laid else ())

    def expire_silence(self, silence_id: str, actor: str, note: Entry | None = None) -> tuple[Transition, ...]:
        """End a silence now; return the transitions of the alerts that are told of again.

        Raises:
            ActionError: nobody may act under that name, there is no such silence, or it has ended.
        """
        now = self.now()

        def ended(silence: Silence) -> Asked:
            starts_at = min(silence.starts_at, now)
            return Asked(msgspec.structs.replace(with_end(silence, now, actor, now), starts_at=starts_at), note)

        self._put_anew(silence_id, actor, now, ended)
        return self._over({silence_id: (actor, "ended the silence")}, now)

    def change_silence(self, silence_id: str, end: End, actor: str, note: Entry | None = None) -> Silence:
        """Give a silence another end, a length being counted from now or, where that lies ahead, from its beginning.

        Return it as it is then. The same again, by who got no answer, changes nothing. What its `note` tells is both
        ends.

        Raises:
            ActionError: nobody may act under that name, there is no such silence, it has ended, or the end is past, not
                after its beginning or too far ahead.
        """
        now = self.now()

        def changed_end(silence: Silence) -> Asked | None:
            if changed_already(silence, end, actor, now):
                return None
            try:
                new = with_end(silence, after(max(now, silence.starts_at), end), actor, now)
            except OverflowError as exc:
                raise ActionError("the end is after the year 9999") from exc
            _check_end(new, now)
            detail = f"until {shown(new.ends_at)}, before that until {shown(silence.ends_at)}"
            return Asked(new, note and msgspec.structs.replace(note, detail=detail))

        return self._put_anew(silence_id, actor, now, changed_end)

    def _put_anew(self, silence_id: str, actor: str, now: datetime, anew: Callable[[Silence], Asked | None]) -> Silence:
        """Store what is made of a silence, None for no change, in its place; return what is there then."""
        _check_name(actor)
        found: list[Silence] = []

        def choose(known: list[Silence]) -> list[Asked]:
            silence = next((each for each in known if each.id == silence_id), None)
            if silence is None:
                raise ActionError(f"there is no silence {silence_id[:_MAX_ID]}")
            if silence.ends_at <= now:
                raise ActionError(f"silence {silence_id} ended at {shown(silence.ends_at)}")
            asked = anew(silence)
            found[:] = [asked.silence if asked else silence]
            return [asked] if asked else []

        self._store_silences(choose)
        return found[0]

    def _store_silences(self, choose: Callable[[list[Silence]], list[Asked]]) -> None:
        try:
            self._silences.add(choose)
        except BusyError as exc:
            raise ActionError(str(exc)) from exc

    def _over(self, by: Mapping[str, tuple[str, str]], now: datetime) -> tuple[Transition, ...]:
        """Return the transitions of open alerts by silences that are stored, of each who did it, and why."""
        made: list[Transition] = []
        try:
            for step in lay_silences(self._store, self._silences.all(), now, by):
                made.append(step)
        except (RedisError, BusyError) as exc:  # what was asked is done, and must not be said to have failed
            log.warning("silences (%s) are stored; their other alerts are left to the leader (%s)", ", ".join(by), exc)
        return tuple(made)

    def _act(
        self,
        alert_id: str,
        event: Event,
        state: State | None,
        problem: Callable[[AlertView], str],
        actor: str,
        reason: str,
        key: str | None,
        note: Entry | None,
        again: Callable[[Transition], bool] = lambda step: False,
    ) -> Transition:
        if not actor.strip() or len(actor) > _MAX_ID or len(reason) > _MAX_TEXT or (key and len(key) > _MAX_ID):
            raise ActionError(f"needs who it is (up to {_MAX_ID} characters) and at most {_MAX_TEXT:,} of a reason")
        _check_name(actor)
        key = key or uuid.uuid4().hex
        before: list[Transition] = []

        def change(view: AlertView) -> Transition | None:
            before[:] = [step for step in view.transitions if step.key == key or again(step)]
            if before:
                return None
            if why := problem(view):
                raise ActionError(f"{view.alert.name}: the alert {why}")
            by_hand = sum(step.event in _BY_HAND and step.actor != SYSTEM for step in view.transitions)
            if event != "noted" and by_hand >= MAX_STEPS:
                raise ActionError(f"{view.alert.name}: people changed the alert {MAX_STEPS} times; no more by hand")
            left = state or view.life.state
            return changed(view.life, view.alert, event, left, at=self.now(), actor=actor, reason=reason, key=key)

        try:
            view, step = self._store.step(alert_id, change, note)
        except BusyError as exc:
            raise ActionError(str(exc)) from exc
        if view is None:
            raise ActionError(f"there is no alert {alert_id[:_MAX_ID]} (any more)")
        return before[0] if step is None else step


def _check_name(actor: str) -> None:
    if is_system(actor):
        raise ActionError(SYSTEM_REFUSED)


def _standing(silence: Silence, there: Iterable[Silence], now: datetime, same: Same) -> Silence | None:
    """Return what has been laid already for a silence that is to be laid, None for nothing, when it may be.

    Raises:
        ActionError: it may not be.
    """
    for each in there:
        if each.id == silence.id:
            if each != silence:
                raise ActionError(f"the id {silence.id[:_MAX_ID]} is that of another silence")
            return each
    ahead = [each for each in there if each.ends_at > now]
    if (before := same(ahead, silence)) is not None:
        return before
    _check(silence, now)
    if len(ahead) >= MAX_SILENCES:
        raise ActionError(f"there are {MAX_SILENCES:,} silences that hold or lie ahead; end some first")
    return None


def _check(silence: Silence, now: datetime) -> None:
    if not silence.matchers:
        raise ActionError("a silence needs a matcher; without one it would lie over every alert")
    if len(silence.matchers) > _MAX_MATCHERS or sum(len(str(each)) for each in silence.matchers) > _MAX_MATCHED:
        raise ActionError(f"at most {_MAX_MATCHERS} matchers with {_MAX_MATCHED:,} characters")
    if all(matcher.matches({}) for matcher in silence.matchers):  # as Alertmanager refuses
        raise ActionError(
            "a silence needs a matcher that an empty label does not match, as company=JPM; "
            f"{', '.join(map(str, silence.matchers))[:200]} would lie over nearly every alert"
        )
    if not silence.id or len(silence.id) > _MAX_ID:
        raise ActionError(f"a silence needs an id of at most {_MAX_ID} characters")
    _check_name(silence.author)
    if not silence.author.strip() or not silence.reason.strip():
        raise ActionError("a silence needs an author and a reason")
    if len(silence.author) > _MAX_ID or len(silence.reason) > _MAX_TEXT:
        raise ActionError(f"at most {_MAX_ID} characters of an author and {_MAX_TEXT:,} of a reason")
    _check_end(silence, now)


def _check_end(silence: Silence, now: datetime) -> None:
    if silence.ends_at <= now:
        raise ActionError(f"the silence would have ended at {shown(silence.ends_at)} already; it is {shown(now)}")
    if silence.starts_at >= silence.ends_at:
        raise ActionError(f"a silence must end after it begins, which is at {shown(silence.starts_at)}")
    if silence.ends_at > now + MAX_SILENCE:
        raise ActionError(f"a silence must end within {MAX_SILENCE.days} days; beyond that a rule can mute")
