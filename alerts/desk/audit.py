"""Who did what on the desk, in order: a Redis stream that the desk only appends to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from redis import Redis

_KEY = "nq:{desk}:audit"
_LENGTH = 100_000


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
        """Append an entry; the last 100,000 are kept."""
        entry = Entry(at=datetime.now(UTC), who=who, what=what, target=target, detail=detail, address=address)
        self._redis.xadd(_KEY, {"entry": msgspec.json.encode(entry)}, maxlen=_LENGTH, approximate=True)

    def last(self, count: int = 100) -> list[Entry]:
        """Return the last entries, the newest first."""
        found: Any = self._redis.xrevrange(_KEY, count=count)
        return [_entry.decode(fields[b"entry"]) for _, fields in found]
