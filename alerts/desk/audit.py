"""Who did what on the desk, in order: Redis streams that the desk only appends to.

What strangers tried has a stream of its own, so that they cannot push out what people did.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import msgspec

if TYPE_CHECKING:
    from redis import Redis

_DEEDS, _REFUSED = "nq:{desk}:audit", "nq:{desk}:audit:refused"
_LENGTH = {_DEEDS: 100_000, _REFUSED: 10_000}


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """`who` did `what` (sign in, acknowledge, ...) to `target`, from `address`; `detail` is a reason or a label."""

    at: datetime
    who: str
    what: str
    target: str = ""
    detail: str = ""
    address: str = ""


_entry = msgspec.json.Decoder(Entry)


class Audit:
    """Writes and reads the log. Every method raises `redis.RedisError` when the server cannot answer."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def write(self, who: str, what: str, *, target: str = "", detail: str = "", address: str = "") -> None:
        """Append an entry: of deeds the last 100,000 are kept, of what nobody known did (`who` is "") 10,000."""
        entry = Entry(at=datetime.now(UTC), who=who, what=what, target=target, detail=detail, address=address)
        key = _DEEDS if who else _REFUSED
        self._redis.xadd(key, {"entry": msgspec.json.encode(entry)}, maxlen=_LENGTH[key], approximate=True)

    def last(self, count: int = 100) -> list[Entry]:
        """Return the last entries, the newest first."""
        found: list[Any] = [each for key in _LENGTH for each in cast(Any, self._redis.xrevrange(key, count=count))]
        entries = [_entry.decode(fields[b"entry"]) for _, fields in found]
        return sorted(entries, key=lambda entry: entry.at, reverse=True)[:count]
