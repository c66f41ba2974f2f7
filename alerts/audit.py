"""Who did what, on the desk and by commands, in order: Redis streams that are only appended to.

What somebody does and its entry are written in one call, so that neither stands without the other: those about alerts
and silences lie under the alerts' hash tag, all else under the desk's. What strangers tried has a stream of its own, so
that they cannot push out what people did.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import msgspec

if TYPE_CHECKING:
    from redis import Redis
    from redis.client import Pipeline

ALERTS, _DESK, _REFUSED = "nq:{alerts}:audit", "nq:{desk}:audit", "nq:{desk}:audit:refused"
MOST = 100_000
"""Entries of deeds that are kept, in each of the two streams."""
_LENGTH = {ALERTS: MOST, _DESK: MOST, _REFUSED: 10_000}


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """`who` did `what` (sign in, acknowledge, ...) to `target`, from `address`; `detail` is a reason or a label."""

    at: datetime
    who: str
    what: str
    target: str = ""
    detail: str = ""
    address: str = ""


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

    def last(self, count: int = 100) -> list[Entry]:
        """Return the last entries, the newest first, without those that cannot be read."""
        found: list[Any] = [each for key in _LENGTH for each in cast(Any, self._redis.xrevrange(key, count=count))]
        entries = [note for _, fields in found if (note := _read(fields.get(b"entry", b""))) is not None]
        return sorted(entries, key=lambda each: each.at, reverse=True)[:count]


class Follower:
    """Reads what people do from its first call on. It raises `redis.RedisError` when the server cannot answer."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._last: dict[str, Any] = {}

    def new(self) -> list[Entry]:
        """Return the entries that came since the last call, at most 200 of alerts and silences, and of all else."""
        if not self._last:
            newest = {key: cast(Any, self._redis.xrevrange(key, count=1)) for key in (ALERTS, _DESK)}
            self._last = {key: found[0][0] if found else b"0-0" for key, found in newest.items()}
        with self._redis.pipeline(transaction=False) as pipe:
            for key, last in self._last.items():  # two keys that no one node need hold
                pipe.xread({key: last}, count=200)
            answers = pipe.execute()
        found = []
        for answer in answers:
            for key, entries in answer or ():
                self._last[key.decode()] = entries[-1][0]
                found += [note for _, fields in entries if (note := _read(fields.get(b"entry", b"")))]
        return found


def _read(raw: bytes) -> Entry | None:
    """Return an entry, None when another version wrote what cannot be read."""
    try:
        return _decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
