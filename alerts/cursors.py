"""How far those who follow the log of transitions have come: the id of an entry, in a key of each one's own.

What stands there and is no place in the log, written by another version or another hand, would stop who follows it for
good.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, NamedTuple

from alerts.store import LOG

if TYPE_CHECKING:
    from redis import Redis

log = logging.getLogger(__name__)

_ENTRY = re.compile(rb"[0-9]{1,20}-[0-9]{1,20}")
_MOST = 2**64


class Cursor(NamedTuple):
    """What stands in a key (`raw`, empty for nothing), and the `entry` that it comes to, "" for the log's beginning.

    When it was `lost` there is no telling what came between the entry, the log's last, and where it had been.
    """

    raw: bytes
    entry: str
    mended: bool = False
    lost: bool = False


def read_cursor(redis: Redis, key: str, *copies: str) -> Cursor:
    """Return the cursor in a key; for what is no place in the log that of the first copy that is one.

    Raises:
        redis.RedisError: the server failed.
    """
    with redis.pipeline(transaction=True) as pipe:
        pipe.mget(key, *copies)
        pipe.xrevrange(LOG, count=1)
        raws, last = pipe.execute()
    end = last[0][0].decode() if last else ""
    if raws[0] is None or _is_place(raws[0], end):
        return Cursor(raws[0] or b"", (raws[0] or b"").decode())
    for raw in raws[1:]:
        if raw is not None and _is_place(raw, end):
            log.error("%s holds no place in the log, %.60r; going on after %s, of its copy", key, raws[0], raw.decode())
            return Cursor(raws[0], raw.decode(), mended=True)
    log.error("%s holds no place in the log, %.60r; what stands is looked through", key, raws[0])
    return Cursor(raws[0], end or "0-0", mended=True, lost=True)


def number_of(entry: str) -> tuple[int, int]:
    """Return an id of the log's entries as what can be compared."""
    first, _, second = entry.partition("-")
    return int(first), int(second or 0)


def _is_place(raw: bytes, end: str) -> bool:
    """Say whether this is the id of an entry, and none of after the last; an empty log may have been cut."""
    if not _ENTRY.fullmatch(raw):
        return False
    number = number_of(raw.decode())
    return max(number) < _MOST and (not end or number <= number_of(end))
