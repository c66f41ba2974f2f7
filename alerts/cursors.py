"""How far those who follow the log of transitions have come: the id of an entry, in a key of each one's own.

What stands there and is no place in the log, written by another version or another hand, would stop who follows it for
good.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from alerts.store import LOG

if TYPE_CHECKING:
    from redis import Redis

log = logging.getLogger(__name__)

_ENTRY = re.compile(rb"[0-9]{1,20}-[0-9]{1,20}")
_MOST = 2**64


class Cursor(NamedTuple):
    """What stands in a key (`raw`, empty for no text), and the `entry` that it comes to, "" for the log's beginning.

    When it was `lost` no copy says where it had been: `entry` is then the log's last, and what came before it may not
    have been taken note of.
    """

    raw: bytes
    entry: str
    mended: bool = False
    lost: bool = False


def read_cursor(redis: Redis, key: str, *copies: str) -> Cursor:
    """Return the cursor in a key; for what is no place in the log that of the first copy that is one.

    An empty text, which the dispatcher writes while the log is empty, is none yet.

    Raises:
        redis.RedisError: the server failed.
    """
    with redis.pipeline(transaction=True) as pipe:
        pipe.mget(key, *copies)
        pipe.exists(key)
        raws, there = pipe.execute()
    raw = raws[0] or b""
    if not there:
        return Cursor(b"", "")
    end = _end(redis)
    if _is_place(raw, end):
        return Cursor(raw, raw.decode())
    what = "another type" if raws[0] is None else f"{raw!r:.60}"
    for copy in raws[1:]:
        if copy is not None and _is_place(copy, end):
            log.error("%s holds no place in the log, %s; going on after %s, of its copy", key, what, copy.decode())
            return Cursor(raw, copy.decode(), mended=True)
    if raws[0] == b"":
        return Cursor(b"", "")
    log.error("%s holds no place in the log, %s; what stands is looked through", key, what)
    return Cursor(raw, end or "0-0", mended=True, lost=True)


def number_of(entry: str) -> tuple[int, int]:
    """Return an id of the log's entries as what can be compared."""
    first, _, second = entry.partition("-")
    return int(first), int(second or 0)


def _end(redis: Redis) -> str:
    """Return the id of the last entry that the log has had, which may be deleted by now; "" where there is no log."""
    if not redis.exists(LOG):
        return ""
    stream: Any = redis.xinfo_stream(LOG)
    end: bytes = stream["last-generated-id"]
    return end.decode()


def _is_place(raw: bytes, end: str) -> bool:
    """Say whether this is the id of an entry, and none of after the last; a log that is gone may have had any."""
    if not _ENTRY.fullmatch(raw):
        return False
    number = number_of(raw.decode())
    return max(number) < _MOST and (not end or number <= number_of(end))
