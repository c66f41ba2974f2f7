"""What viewers are told of while they look: transitions, deeds, a new table, new items; one reader for all of them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from redis import RedisError

from alerts.audit import Follower
from alerts.desk.metrics import DeskMetrics
from alerts.desk.problems import ProblemError
from alerts.desk.stream import Stream
from alerts.now import Now, NowError
from alerts.store import LOG
from alerts.stored import step_of

if TYPE_CHECKING:
    from redis import Redis

log = logging.getLogger(__name__)

_BLOCK_MS = 500
_WAITING = 100
_HEARTBEAT_S = 5.0
_RETRY_S, _LONGEST_RETRY_S = 2.0, 30.0
_ITEMS_AT_ONCE = 30
_STUCK_S = 60.0
_LONGEST_S = 900.0
"""A stream ends after so long: the browser comes again, and must still be signed in."""
_TOLD = frozenset({"silence", "change_silence", "expire_silence", "feedback"})
"""What people do that need not change an alert: other pages show it, too."""
_json = msgspec.json.Encoder()


class Message(msgspec.Struct, frozen=True):
    """One event: its kind and its data as JSON."""

    kind: str
    data: bytes

    def encode(self) -> bytes:
        """Return it as server-sent events are written."""
        return b"event: " + self.kind.encode() + b"\ndata: " + self.data + b"\n\n"


class Viewer:
    """One page of somebody's that is kept up to date; with `items` it is told of what is scored, too."""

    def __init__(self, name: str, *, items: bool) -> None:
        self.name, self.items = name, items
        self.queue: asyncio.Queue[Message | None] = asyncio.Queue(_WAITING)


class FullError(Exception):
    """There is no room for another viewer; the message says why. `own` says that the viewer has too many."""

    def __init__(self, why: str, *, own: bool) -> None:
        super().__init__(why)
        self.own = own


class Hub:
    """Reads the log of transitions and hands what is new to every viewer."""

    def __init__(self, redis: Redis, now: Now, stream: Stream, metrics: DeskMetrics, most: int, each: int) -> None:
        """There is room for `most` viewers, and for `each` of one name."""
        self._redis, self._now, self._stream, self._metrics = redis, now, stream, metrics
        self._most, self._each = most, each
        self._follower = Follower(redis)
        self._viewers: set[Viewer] = set()
        self._task: asyncio.Task[None] | None = None
        self._at, self._number, self._left_out = "", stream.number, 0
        self._minute: int | None = None
        self._last = self._good = time.monotonic()  # when the log was read, and when nothing else was wrong either
        self._error, self._behind = "has not begun to read the log", ""  # nothing is told, or not all of it
        self._away = True  # Redis, as far as is known
        self._ended = False

    def health(self) -> tuple[list[str], list[str]]:
        """Return why it is not live and why it is not ready."""
        silent_s = time.monotonic() - self._last
        stuck = [f"the log of transitions was not read for {silent_s:.0f} s"] if silent_s > _STUCK_S else []
        return stuck, [self._error] if self._error else []

    def start(self) -> None:
        """Begin to read; call it in the event loop."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End all viewers' streams and the reading."""
        self._ended = True
        for viewer in self._viewers:
            _put(viewer.queue, None)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def enter(self, name: str, *, items: bool) -> Viewer:
        """Give a viewer a place, which must be left.

        Raises:
            FullError: there is none.
        """
        own = sum(viewer.name == name for viewer in self._viewers)
        if own >= self._each:
            self._metrics.refused.inc()
            why = f"as many of your pages are kept up to date as may be ({own}): close some of them"
            raise FullError(why, own=True)
        if len(self._viewers) >= self._most:
            self._metrics.refused.inc()
            raise FullError("as many pages are kept up to date as desk.viewers allows", own=False)
        viewer = Viewer(name, items=items)
        self._viewers.add(viewer)
        self._metrics.viewers.set(len(self._viewers))
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """Take back a viewer's place."""
        self._viewers.discard(viewer)
        self._metrics.viewers.set(len(self._viewers))

    async def watch(self, viewer: Viewer, may: Callable[[], bool]) -> AsyncIterator[bytes]:
        """Yield what is new as server-sent events, for 15 minutes, while the viewer `may` have it; a beat every 5 s."""
        end = time.monotonic() + _LONGEST_S
        beat = time.monotonic() + _HEARTBEAT_S
        yield b"retry: 2000\n\n"
        while not self._ended and time.monotonic() < end:
            try:
                message = await asyncio.wait_for(viewer.queue.get(), max(0.0, beat - time.monotonic()))
            except TimeoutError:
                if not await asyncio.to_thread(self._still, may):
                    return
                yield self._beat().encode()
                beat = time.monotonic() + _HEARTBEAT_S
                continue
            if message is None:
                return
            yield message.encode()

    def _still(self, may: Callable[[], bool]) -> bool:
        """Say whether a viewer may go on; while Redis cannot say so, they may."""
        try:
            return self._away or may()
        except RedisError:
            return True
        except ProblemError:  # a proxy names who may not come in
            return False

    def _beat(self) -> Message:
        """Return the sign of life: since when pages may not be up to date, null while all is well."""
        since = time.time() - (time.monotonic() - self._good) if self._error or self._behind else None
        return Message("beat", _json.encode({"since": since and datetime.fromtimestamp(since, UTC)}))

    def tell(self, message: Message, *, items: bool = False) -> None:
        """Hand a message to all viewers, one of `items` to those who asked for them."""
        for viewer in self._viewers:
            queue = viewer.queue
            if items and not viewer.items:
                continue
            if queue.full():  # it is too slow: it loads all anew instead
                while not queue.empty():
                    queue.get_nowait()
                self._metrics.dropped.inc()
                _put(queue, Message("reload", b"{}"))
            else:
                _put(queue, message)

    async def _run(self) -> None:
        wait_s = _RETRY_S
        while True:
            try:
                await self._turn()
                wait_s = _RETRY_S
            except RedisError as exc:
                self._away = True
                self._fails("redis", f"Redis: {exc}")
                log.warning("the log of transitions cannot be read (%s); trying again", exc)
                await asyncio.sleep(_RETRY_S)
            except Exception as exc:  # were this task to end, every page would stay as it is, and nobody would know
                self._away = False
                self._fails("unexpected", f"what has changed cannot be told: {exc!r}")
                log.exception("what has changed cannot be told to pages; trying again in %.0f s", wait_s)
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, _LONGEST_RETRY_S)

    async def _turn(self) -> None:
        """Look once at what is new, and tell it; what cannot be read holds up nothing else."""
        if not self._at:
            self._at = await asyncio.to_thread(self._newest)
        entries, minute, problem = await asyncio.to_thread(self._look, self._at)
        deeds = await asyncio.to_thread(self._follower.new)
        self._last, self._away = time.monotonic(), False
        for entry, fields in entries:
            self._at = entry
            step = step_of(entry, fields)
            if step is None:
                self._metrics.unreadable.labels(what="transition").inc()
            else:
                self.tell(Message("transition", _json.encode(step)))
        self._metrics.unreadable.labels(what="deed").inc(deeds.unreadable)
        for deed in deeds.entries:
            if deed.what in _TOLD:
                self.tell(Message("deed", _json.encode({"what": deed.what, "target": deed.target})))
        if minute is not None and minute != self._minute:
            self._minute = minute
            self.tell(Message("now", _json.encode({"minute": minute})))
        self._tell_items()
        if problem:
            self._metrics.reading_errors.labels(reason="now").inc()
            if problem != self._behind:  # else it has been said: it stands for as long as what is there does
                log.error("pages are not up to date: %s", problem)
        else:
            self._good = self._last
        self._error, self._behind = "", problem

    def _fails(self, reason: str, why: str) -> None:
        self._error = why
        self._metrics.reading_errors.labels(reason=reason).inc()

    def _tell_items(self) -> None:
        fresh = self._stream.since(self._number, _ITEMS_AT_ONCE)
        if fresh:
            skipped = fresh[0].number - self._number - 1 if self._number else 0
            self._number = fresh[-1].number
            self.tell(Message("items", _json.encode({"items": fresh, "skipped": skipped})), items=True)
        if self._stream.left_out > self._left_out:
            self._metrics.unreadable.labels(what="item").inc(self._stream.left_out - self._left_out)
            self._left_out = self._stream.left_out

    def _newest(self) -> str:
        found: Any = self._redis.xrevrange(LOG, count=1)
        return str(found[0][0].decode()) if found else "0-0"

    def _look(self, last: str) -> tuple[list[tuple[str, Any]], int | None, str]:
        """Return what the log has after an entry, the minute of the table, and why there is none to be read."""
        found: Any = self._redis.xread({LOG: last}, count=200, block=_BLOCK_MS)
        entries = [(entry.decode(), fields) for _, each in found or () for entry, fields in each]
        try:
            return entries, self._now.minute(), ""
        except NowError as exc:
            return entries, None, str(exc)


def _put(queue: asyncio.Queue[Message | None], message: Message | None) -> None:
    if not queue.full():
        queue.put_nowait(message)
