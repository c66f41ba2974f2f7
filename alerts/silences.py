"""Silences: nobody is told of the alerts that they match, until a time; each has an author and a reason."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from redis.exceptions import WatchError

from alerts import audit
from alerts.alert import Alert
from alerts.audit import Entry
from alerts.ends import End
from alerts.life import SYSTEM, AlertView, Event, Transition, changed
from alerts.matchers import Matcher, MatcherError, labels_by, labels_of, matches_all
from alerts.records import UNREADABLE, Moment
from alerts.store import AlertStore, BusyError

if TYPE_CHECKING:
    from redis import Redis
    from redis.client import Pipeline

log = logging.getLogger(__name__)

KEY = "nq:{alerts}:silences"
"""A hash: id → `Silence` as JSON. Those that ended 90 days ago are dropped, and all but the last 5,000 that ended."""
MAX_ENDED = 5_000
_AGAIN = timedelta(minutes=2)
"""So long after it, or a tenth of its length, the same silence by the same person from then on was asked for twice."""
_AT_ONCE = timedelta(seconds=10)
"""What another process has laid at the same moment may begin so much later."""
_TRIES = 50


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """Holds from `starts_at`, which may lie ahead, to before `ends_at`, over alerts that all `matchers` match.

    `revision` counts its other ends, of which the last was given by `changed_by` at `changed_at`.
    """

    id: str
    matchers: tuple[Matcher, ...]
    starts_at: Moment
    ends_at: Moment
    author: str
    reason: str
    created_at: Moment
    revision: int = 0
    changed_by: str = ""
    changed_at: Moment | None = None

    def holds(self, at: datetime) -> bool:
        """Say whether it holds at a time."""
        return self.starts_at <= at < self.ends_at

    def covers(self, alert: Alert, at: datetime) -> bool:
        """Say whether it lies over an alert at a time. Labels are the detector's: `state` is firing or resolved."""
        return self.holds(at) and matches_all(self.matchers, labels_of(alert))

    def follows(self, other: Silence) -> bool:
        """Say whether it is a later form of the same silence; of two that others made of one form, who ends it wins."""
        return (-self.revision, self.ends_at) < (-other.revision, other.ends_at)

    def concerns(self, series: str) -> bool:
        """Say whether it can lie over alerts on a series; over which, matchers on other labels may say."""
        labels = labels_by(series)
        return matches_all((each for each in self.matchers if each.name in labels), labels)


class Asked(NamedTuple):
    """A silence that is to be stored, and the audit log's entry of who asks for it."""

    silence: Silence
    note: Entry | None = None


class Silences:
    """Reads and writes silences. Every method raises `redis.RedisError` when the server cannot answer."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._known: dict[bytes, tuple[bytes, Silence | None]] = {}
        self._put = redis.register_script(files("alerts").joinpath("silence.lua").read_text("utf-8"))

    def all(self) -> list[Silence]:
        """Return them all, those that end last first."""
        raws: Any = self._redis.hgetall(KEY)
        before, known = self._known, {}
        for id_, raw in raws.items():
            read = before.get(id_)
            known[id_] = read if read is not None and read[0] == raw else (raw, _read(id_, raw))
        self._known = known  # what has not changed is not read anew, however often it is asked for
        found = [silence for _, silence in known.values() if silence is not None]
        return sorted(found, key=lambda silence: (silence.ends_at, silence.id), reverse=True)

    def any(self) -> bool:
        """Say whether there are any, ended or not."""
        return bool(self._redis.exists(KEY))

    def get(self, silence_id: str) -> Silence | None:
        """Return one, None when there is none."""
        raw: Any = self._redis.hget(KEY, silence_id)
        return None if raw is None else _read(silence_id, raw)

    def put(self, silence: Silence, note: Entry | None = None) -> None:
        """Store one, in the place of what has its id, and with it the audit log's entry."""
        self._store(self._redis, Asked(silence, note))

    def add(self, choose: Callable[[list[Silence]], Iterable[Asked]]) -> None:
        """Store what `choose` makes of those that there are, each with its entry of the audit log: all, or nothing.

        It is asked again when others have laid, ended or dropped some meanwhile: what is stored is stored beside those
        that it looked at, and no others.

        Raises:
            BusyError: others did so each time.
        """
        with self._redis.pipeline(transaction=True) as pipe:
            for _ in range(_TRIES):
                with contextlib.suppress(WatchError):
                    pipe.watch(KEY)
                    chosen = list(choose(self.all()))
                    if chosen:
                        pipe.multi()
                        for each in chosen:
                            self._store(pipe, each)
                        pipe.execute()
                    return
        raise BusyError("silences are being laid and ended by others all the time")

    def _store(self, client: Redis | Pipeline, asked: Asked) -> None:
        silence, note = asked
        args: list[Any] = [silence.id, msgspec.json.encode(silence), audit.encoded(note), audit.MOST]
        self._put(keys=[KEY, audit.ALERTS], args=args, client=client)

    def drop(self, ids: Iterable[str]) -> None:
        """Forget some."""
        if gone := list(ids):
            self._redis.hdel(KEY, *gone)


def silence_over(silences: Iterable[Silence], alert: Alert, at: datetime) -> str:
    """Return the id of a silence that lies over an alert, of several the one that ends last; "" for none."""
    over = [silence for silence in silences if silence.covers(alert, at)]
    return max(over, key=lambda silence: (silence.ends_at, silence.id)).id if over else ""


def with_end(silence: Silence, ends_at: datetime, actor: str, now: datetime) -> Silence:
    """Return the form of a silence that somebody gives another end."""
    return msgspec.structs.replace(
        silence, ends_at=ends_at, revision=silence.revision + 1, changed_by=actor, changed_at=now
    )


def changed_already(silence: Silence, end: End, actor: str, now: datetime) -> bool:
    """Say whether a silence has the end that somebody asks for, for whom a length is the same for a little while."""
    if isinstance(end, datetime):
        return silence.ends_at == end
    if silence.changed_at is None or silence.changed_by != actor:
        return False
    length = silence.ends_at - max(silence.changed_at, silence.starts_at)
    return length == end and _just_now(now - silence.changed_at, length)


def _just_now(ago: timedelta, length: timedelta) -> bool:
    return ago <= min(_AGAIN, length / 10)


def same_again(silences: Iterable[Silence], wanted: Silence, *, from_now: bool) -> Silence | None:
    """Return the silence that its author has laid already, None for none: a repeat of what got no answer lays no other.

    `from_now` says that it is to begin now, whenever that is: then it is one that holds, or does in a moment, and ends
    at the same time, or is as long and little of it is over.
    """
    now, length = wanted.created_at, wanted.ends_at - wanted.starts_at
    for each in silences:
        same_end, same_length = each.ends_at == wanted.ends_at, each.ends_at - each.starts_at == length
        if (each.author, each.matchers, each.reason) != (wanted.author, wanted.matchers, wanted.reason):
            continue
        if not (same_end or same_length):
            continue
        ago = now - each.starts_at
        if from_now and each.ends_at > now and ago >= -_AT_ONCE and (same_end or _just_now(ago, length)):
            return each
        if not from_now and each.starts_at == wanted.starts_at and each.ends_at > now:
            return each
    return None


def lay_silences(
    store: AlertStore,
    silences: list[Silence],
    now: datetime,
    by: Mapping[str, tuple[str, str]] | None = None,
) -> Iterator[Transition]:
    """Silence the open alerts that a silence lies over, and unsilence those that none does any more.

    It is done as the transitions are read from it, so that who reads them knows of each that was made before a failure.
    `by` says of silences who does that and why; of others the author begins them, and time ends them.
    """
    known = {silence.id: silence for silence in silences}
    holding = [silence for silence in silences if silence.holds(now)]

    def change(view: AlertView) -> Transition | None:
        begins = silence_over(holding, view.alert, now)
        if view.life.state == "resolved" or bool(begins) == bool(view.life.silence):
            return None
        id_ = begins or view.life.silence
        silence = known.get(id_)
        event: Event = "silenced" if begins else "unsilenced"
        usual = (silence.author, silence.reason) if begins and silence else (SYSTEM, "the silence has ended")
        actor, reason = (by or {}).get(id_, usual)
        state = view.life.state
        return changed(view.life, view.alert, event, state, at=now, actor=actor, reason=reason, silence=id_)

    lives = store.lives()
    over = {alert.id: silence_over(holding, alert, now) for alert in store.open(reopened=True)} if holding else {}
    yield from store.steps((life.alert for life in lives if bool(over.get(life.alert)) != bool(life.silence)), change)


_decoder = msgspec.json.Decoder(Silence)


def _read(id_: bytes | str, raw: bytes) -> Silence | None:
    """One that cannot be read (written by another version) silences nothing."""
    try:
        return _decoder.decode(raw)
    except (*UNREADABLE, MatcherError) as exc:
        log.error("silence %r cannot be read and silences nothing (%s)", id_, exc)
        return None
