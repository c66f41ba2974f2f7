"""Who did what, on the desk and by commands, in order: Redis streams that are only appended to.

What somebody does and its entry are written in one call, so that neither stands without the other: those about alerts
and silences lie under the alerts' hash tag, all else under the desk's. What strangers tried has a stream of its own, so
that they cannot push out what people did.
"""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec

from alerts.records import UNREADABLE, Moment

if TYPE_CHECKING:
    from redis import Redis
    from redis.client import Pipeline

log = logging.getLogger(__name__)

ALERTS, _DESK, _REFUSED = "nq:{alerts}:audit", "nq:{desk}:audit", "nq:{desk}:audit:refused"
MOST = 100_000
"""Entries of deeds that are kept, in each of the two streams."""
_LENGTH = {ALERTS: MOST, _DESK: MOST, _REFUSED: 10_000}
_STREAMS = {"a": ALERTS, "d": _DESK, "r": _REFUSED}
"""The streams by the letter with which ids of their entries begin; where times are equal the later letter is newer."""
CURSOR = r"[adr]-[1-9][0-9]{0,18}-[0-9]{1,19}"
"""What ids of entries look like."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """`who` did `what` (sign in, acknowledge, ...) to `target`, from `address`; `detail` is a reason or a label."""

    at: Moment
    who: str
    what: str
    target: str = ""
    detail: str = ""
    address: str = ""


class Noted(Entry, frozen=True, kw_only=True):
    """An entry with its `id`, by which it keeps its place in the log."""

    id: str


class Part(NamedTuple):
    """Some of the log, the newest first, and how many of it cannot be read; after `next` comes more, "" at its end."""

    entries: list[Noted]
    unreadable: int
    next: str


_decoder = msgspec.json.Decoder(Entry)


def entry(who: str, what: str, *, target: str = "", detail: str = "", address: str = "") -> Entry:
    """Return an entry of now."""
    return Entry(at=datetime.now(UTC), who=who, what=what, target=target, detail=detail, address=address)


def encoded(note: Entry | None) -> bytes:
    """Return an entry as the scripts take it: empty for none."""
    return b"" if note is None else msgspec.json.encode(note)


def append(pipe: Redis | Pipeline, note: Entry) -> None:
    """Append what is not about alerts, with whatever else the pipeline does; of what nobody known did `who` is ""."""
    key = _DESK if note.who else _REFUSED
    pipe.xadd(key, {"entry": msgspec.json.encode(note)}, maxlen=_LENGTH[key], approximate=True)


class Audit:
    """Writes and reads the log. Every method raises `redis.RedisError` when the server cannot answer."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def write(self, note: Entry) -> None:
        """Append what is written by itself: of deeds the last 100,000 are kept, of strangers' (`who` is "") 10,000."""
        append(self._redis, note)

    def last(self, count: int = 100) -> list[Noted]:
        """Return the last entries, the newest first, without those that cannot be read."""
        return self.part(count).entries

    def mark(self) -> tuple[bytes, ...]:
        """Return what changes whenever somebody does something."""
        with self._redis.pipeline(transaction=False) as pipe:
            for key in (ALERTS, _DESK):  # two keys that no one node need hold
                pipe.xrevrange(key, count=1)
            return tuple(found[0][0] if found else b"" for found in pipe.execute())

    def part(self, count: int = 100, after: str = "") -> Part:
        """Return the newest entries, or those before the one with the id `after`; new ones move none of these.

        They stand in the order in which Redis took them. `after` may be of one that is kept no more.
        """
        found: list[tuple[tuple[int, int, str], Any]] = []
        with self._redis.pipeline(transaction=False) as pipe:  # at once: what came meanwhile were on no page
            for letter, key in _STREAMS.items():
                pipe.xrevrange(key, max=_before(letter, after), count=count + 1)
            answers = pipe.execute()
        for letter, raws in zip(_STREAMS, answers, strict=True):
            found += [((*_number(entry), letter), fields) for entry, fields in raws]
        found.sort(key=lambda each: each[0], reverse=True)
        ids = [f"{letter}-{ms}-{number}" for (ms, number, letter), _ in found[:count]]
        read = [(id_, _read(fields)) for id_, (_, fields) in zip(ids, found, strict=False)]
        entries = [Noted(id=id_, **msgspec.structs.asdict(note)) for id_, note in read if note is not None]
        return Part(entries, len(read) - len(entries), ids[-1] if len(found) > count else "")


class New(NamedTuple):
    """What came since one looked last, and how many entries besides cannot be read."""

    entries: list[Entry]
    unreadable: int


class Follower:
    """Reads what people do from its first call on. It raises `redis.RedisError` when the server cannot answer."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._last: dict[str, Any] = {}

    def new(self) -> New:
        """Return the entries that came since the last call, at most 200 of alerts and silences, and of all else."""
        if not self._last:
            newest = {key: cast(Any, self._redis.xrevrange(key, count=1)) for key in (ALERTS, _DESK)}
            self._last = {key: found[0][0] if found else b"0-0" for key, found in newest.items()}
        with self._redis.pipeline(transaction=False) as pipe:
            for key, last in self._last.items():  # two keys that no one node need hold
                pipe.xread({key: last}, count=200)
            answers = pipe.execute()
        found, unreadable = list[Entry](), 0
        for answer in answers:
            for key, entries in answer or ():
                self._last[key.decode()] = entries[-1][0]
                for entry, fields in entries:
                    note = _read(fields)
                    if note is None:
                        unreadable += 1
                        log.error("entry %s of %s is none of the audit log's", entry.decode(), key.decode())
                    else:
                        found.append(note)
        return New(found, unreadable)


def _read(fields: Any) -> Entry | None:
    """Return an entry, None when another version wrote what cannot be read."""
    try:
        return _decoder.decode(fields[b"entry"])
    except (*UNREADABLE, KeyError):
        return None


def _number(entry: bytes) -> tuple[int, int]:
    ms, _, number = entry.partition(b"-")
    return int(ms), int(number)


def _before(letter: str, after: str) -> str:
    """Return the end of the range of a stream's entries that come before that with the id `after`."""
    if not re.fullmatch(CURSOR, after):
        return "+"
    of, _, entry = after.partition("-")
    return entry if letter < of else f"({entry}"
