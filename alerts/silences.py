"""Silences: nobody is told of the alerts that they match, until a time; each has an author and a reason."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from redis.exceptions import WatchError

from alerts import audit
from alerts.alert import Alert
from alerts.audit import Entry
from alerts.matchers import Matcher, MatcherError, labels_by, labels_of, matches_all
from alerts.records import UNREADABLE, Moment
from alerts.store import BusyError

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
    """Holds from `starts_at`, which may lie ahead, to before `ends_at`, over alerts that all `matchers` match."""

    id: str
    matchers: tuple[Matcher, ...]
    starts_at: Moment
    ends_at: Moment
    author: str
    reason: str
    created_at: Moment

    def holds(self, at: datetime) -> bool:
        """Say whether it holds at a time."""
        return self.starts_at <= at < self.ends_at

    def covers(self, alert: Alert, at: datetime) -> bool:
        """Say whether it lies over an alert at a time. Labels are the detector's: `state` is firing or resolved."""
        return self.holds(at) and matches_all(self.matchers, labels_of(alert))

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


def same_again(silences: Iterable[Silence], wanted: Silence, *, from_now: bool) -> Silence | None:
    """Return the silence that its author has laid already, None for none: a repeat of what got no answer lays no other.

    `from_now` says that it is to begin now, whenever that is: then it is one that holds, or does in a moment, and
    little of it is over.
    """
    now, length = wanted.created_at, wanted.ends_at - wanted.starts_at
    for each in silences:
        asked = (each.author, each.matchers, each.reason, each.ends_at - each.starts_at)
        if asked != (wanted.author, wanted.matchers, wanted.reason, length):
            continue
        ago = now - each.starts_at
        if from_now and each.ends_at > now and -_AT_ONCE <= ago <= min(_AGAIN, length / 10):
            return each
        if not from_now and each.starts_at == wanted.starts_at and each.ends_at > now:
            return each
    return None


_decoder = msgspec.json.Decoder(Silence)


def _read(id_: bytes | str, raw: bytes) -> Silence | None:
    """One that cannot be read (written by another version) silences nothing."""
    try:
        return _decoder.decode(raw)
    except (*UNREADABLE, MatcherError) as exc:
        log.error("silence %r cannot be read and silences nothing (%s)", id_, exc)
        return None
