"""Sends the deliveries of one receiver, in its own thread: a slow or dead receiver delays no other."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from redis import RedisError

from alerts.alert import AlertError
from alerts.breaker import Breaker, Lanes, Pace
from alerts.channels.channel import Channel, Result
from alerts.delivery import Delivery
from alerts.digest import digest_of, foldable
from alerts.metrics import AlertsMetrics
from alerts.notification import Notification, decode_notification
from alerts.outbox import Outbox, Queued
from alerts.replay import TOLD_LATER, still_news

log = logging.getLogger(__name__)

RETRY_S = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Waits before each attempt (Standard Webhooks' schedule); after the last the delivery is dead."""
KEEP_S = sum(RETRY_S) * 1.2
"""How long a delivery is kept that is not tried on that schedule, because its receiver is down or wants no more now."""
_LIMITED_S = 30.0
_SEEN, _SWEPT = 200, 5_000
_LOOKUPS = 4


class _Attempt(NamedTuple):
    """A message that goes out at `at_s` (Unix). `began_s` is the same by a steady clock."""

    queued: Queued
    told: Notification
    at_s: float
    began_s: float


class Sender:
    """Tries what is due, in order; writes down what came of it.

    Several messages are on their way at once (`alerts.breaker.Lanes`), never two that tell of the same alert. All of it
    but the waiting for answers is done by one thread, one thing after the other.

    While the receiver is down (`alerts.breaker`), deliveries wait untried, but for one at a time that finds out whether
    it is back. Then all that waited is due. An attempt made for that alone does not count.
    """

    def __init__(
        self,
        channel: Channel,
        outbox: Outbox,
        metrics: AlertsMetrics,
        clock: Callable[[], float],
        *,
        waits_s: tuple[float, ...] = RETRY_S,
        poll_s: float = 0.25,
    ) -> None:
        self._channel = channel
        self._name = channel.name
        self._outbox = outbox
        self._metrics = metrics
        self._clock = clock
        self._waits_s = waits_s
        self._poll_s = poll_s
        self._pace, self._lanes = Pace(channel.per_minute), Lanes(channel.at_once)
        self._breaker: Breaker | None = None  # as Redis knows it, once it answers
        self._quiet_until_s = 0.0
        self._now_s = math.inf  # when it looked last
        self._failed_s = 0.0  # when a failure counted last, by a steady clock
        self._stop = threading.Event()
        self._probed: set[str] = set()
        self._begun: list[_Attempt] = []  # and yet to be sent
        self._under_way: dict[str, list[str]] = {}  # id → alerts, of what was begun and has not ended
        metrics.receiver(self._name)

    def run(self, stop: threading.Event) -> None:
        """Send until `stop` is set. While Redis cannot answer, wait and try again."""
        wait_s, self._stop = self._poll_s, stop
        while not stop.is_set():
            try:
                if self.step(sys.maxsize):
                    continue
                wait_s = self._poll_s
            except RedisError as exc:
                wait_s = min(wait_s * 2, 30.0)
                self._metrics.redis_errors.inc()
                log.warning("outbox of %s: Redis failed (%s); trying again in %.1f s", self._name, exc, wait_s)
            except Exception:  # a thread that ends silently would stop all alerts of this receiver
                wait_s = 30.0
                self._metrics.unexpected_errors.labels(part="sending").inc()
                log.exception("outbox of %s: unexpected failure; trying again in 30 s", self._name)
            stop.wait(wait_s)

    def step(self, most: int = 1) -> bool:
        """Make the attempts that are due, `most` at most, and those that come due meanwhile; return False when none is.

        None is on its way when this returns or raises.
        """
        self._begun.clear()
        self._under_way.clear()
        found = self._look(min(most, self._lanes.count))
        if self._begun:
            asyncio.run(self._send(most - len(self._begun)))
        return found

    async def _send(self, left: int) -> None:
        """Make the attempts that were begun, and up to `left` more; what goes wrong is raised when all have ended."""
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_LOOKUPS))  # names are resolved there
        tasks: dict[asyncio.Task[Result], _Attempt] = {}
        failures = list[Exception]()
        async with self._channel.kept() as channel:
            while self._begun or tasks:
                tasks |= {asyncio.create_task(self._answer(channel, each)): each for each in self._begun}
                self._begun.clear()
                all_used = len(tasks) >= self._lanes.count
                wait_s = None if all_used or not left or failures else self._poll_s
                ended, _ = await asyncio.wait(tasks, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    try:
                        self._ended(tasks.pop(task), task.result(), all_used=all_used)
                    except Exception as exc:  # noqa: BLE001 - the others are on their way still
                        failures.append(exc)
                try:
                    left -= self._begin_more(0 if failures else left)
                except Exception as exc:  # noqa: BLE001 - as above
                    failures.append(exc)
        if failures:
            raise failures[0]

    def _begin_more(self, most: int) -> int:
        """Begin what is due by now, as lanes are free; return how many these are."""
        before = len(self._under_way)
        while (free := min(self._lanes.count, before + most) - len(self._under_way)) > 0 and not self._stop.is_set():
            if not self._look(free):
                break
        return len(self._under_way) - before

    def _look(self, most: int) -> bool:
        """Begin up to `most` attempts that are due; return False when there was nothing to do."""
        now_s = self._clock()
        breaker = self._breaker or self._recall()
        if now_s < self._now_s:
            if self._under_way:
                return False
            self._set_back(now_s)
        self._now_s = now_s
        disabled = self._outbox.disabled(self._name)
        if disabled is not None:
            due = self._outbox.due(self._name, now_s, beside=self._under_way)
            for delivery in due:
                self._dead(delivery, f"the receiver is disabled: {disabled}", now_s)
            return bool(due)
        room, digests = self._pace.room(now_s), self._channel.digests
        if room < 1 or now_s < self._quiet_until_s or not breaker.allows(now_s):
            return False
        if breaker.down is not None or (room == 1 and digests):
            if self._under_way:  # what becomes of it comes first
                return False
            return self._probe(now_s) if breaker.down is not None else self._last_of_the_minute(now_s)
        found = self._outbox.due(self._name, now_s, min(most, room - 1 if digests else room), self._under_way)
        for each in found:
            if self._pace.room(now_s) > 0 and (left := self._still_news(each, now_s)) is not None:
                self._begin(Queued(now_s, left), now_s)
        return bool(found)

    def _recall(self) -> Breaker:
        """Take up what Redis knows of the receiver."""
        breaker = Breaker(self._outbox.down(self._name))
        if breaker.down is None:
            self._outbox.set_down(self._name, None)  # if it cannot be read, it would be said for ever
        self._pace = Pace(self._channel.per_minute, self._outbox.sent(self._name))
        self._metrics.receiver_up.labels(receiver=self._name).set(breaker.down is None)
        self._breaker = breaker
        return breaker

    def _last_of_the_minute(self, now_s: float) -> bool:
        """Tell all that is due in one message; return False when nothing is."""
        found = self._outbox.due(self._name, now_s, self._channel.digests)
        due = [left for each in found if (left := self._still_news(each, now_s)) is not None]
        if not due:
            return bool(found)
        alone = len(due) == 1 or due[0].event == "alert.digest"
        delivery = due[0] if alone else self._folded(due, now_s)
        if delivery is not None:
            self._begin(Queued(now_s, delivery), now_s)
        return True

    def _set_back(self, now_s: float) -> None:
        """Go by the clock where it, or that of the process that led before, has stepped back."""
        self._quiet_until_s -= self._now_s - now_s
        if count := self._outbox.set_back(self._name, now_s):
            log.warning("%s: %d deliveries were made by a clock that was ahead; they are due now", self._name, count)

    def _folded(self, due: list[Delivery], now_s: float) -> Delivery | None:
        """Put one digest in the place of what is due, None when somebody moved them meanwhile."""
        try:
            members = foldable(due)
            if len(members) < 2:
                return due[0]
            digest = digest_of(members, datetime.fromtimestamp(now_s, UTC))
        except AlertError:
            return due[0]  # one that cannot be read is given up when it is tried
        if not self._outbox.fold(digest, members, now_s):
            return None
        self._metrics.held_back.labels(receiver=self._name).inc(len(members))
        log.warning("%s: %d messages are told in one, its limit a minute is reached", self._name, len(members))
        return digest

    def _probe(self, now_s: float) -> bool:
        """Try one delivery of a receiver that is down, another each time; give up those that are too old."""
        waiting = self._outbox.queued(self._name, _SWEPT)
        for queued in waiting:
            if queued.delivery.waits_since_s < now_s - KEEP_S:
                self._dead(queued.delivery, f"not taken for {KEEP_S / 86_400:.0f} days", now_s)
        young = [queued for queued in waiting[:_SEEN] if queued.delivery.waits_since_s >= now_s - KEEP_S]
        fit = [queued for queued in young if self._outbox.can_go(queued.delivery)]
        if not fit:
            return False
        fresh = [queued for queued in fit if queued.delivery.id not in self._probed]
        if not fresh:
            self._probed.clear()
            fresh = fit
        self._probed.add(fresh[0].delivery.id)
        left = self._still_news(fresh[0].delivery, now_s)
        if left is not None:
            self._begin(msgspec.structs.replace(fresh[0], delivery=left), now_s)
        return True

    def _still_news(self, delivery: Delivery, now_s: float) -> Delivery | None:
        """Return what of a delivery the receiver does not know better by now; None, and it is left out, for nothing.

        What was never given up comes in order, and is news.
        """
        left = still_news(delivery, self._outbox.told) if delivery.revived_s else delivery
        if left is None:
            self._outbox.supersede(msgspec.structs.replace(delivery, reason=TOLD_LATER), now_s)
            self._metrics.deliveries.labels(receiver=self._name, outcome="superseded").inc()
            log.info("%s %s to %s is sent no more: something later was", delivery.event, delivery.id, self._name)
        return left

    def _begin(self, queued: Queued, now_s: float) -> None:
        """Write down that a message goes out now, or give it up when it cannot be read."""
        delivery = queued.delivery
        try:
            told = decode_notification(delivery.body)
        except AlertError as exc:
            self._dead(delivery, str(exc), now_s)
            return
        if self._stop.is_set() or not self._outbox.begin(delivery, now_s, self._channel.per_minute):
            return  # another process leads by now, and may have sent it
        self._pace.sent(now_s, 1 if self._channel.digests else len(told.alerts))
        self._under_way[delivery.id] = [alert.id for alert in told.alerts]
        self._begun.append(_Attempt(queued, told, now_s, time.monotonic()))

    async def _answer(self, channel: Channel, attempt: _Attempt) -> Result:
        try:
            return await channel.send(attempt.told, datetime.fromtimestamp(attempt.at_s, UTC))
        except Exception as exc:  # a mistake of ours in one message must not hold up all those behind it
            log.exception("%s %s to %s: unexpected failure", attempt.told.event, attempt.told.id, self._name)
            self._metrics.unexpected_errors.labels(part="sending").inc()
            return Result("failed", f"unexpected {type(exc).__name__}")

    def _ended(self, attempt: _Attempt, result: Result, *, all_used: bool) -> None:
        del self._under_way[attempt.queued.delivery.id]
        now_s, well = time.monotonic(), result.outcome in ("delivered", "refused")
        self._lanes.answered(now_s, now_s - attempt.began_s, well=well, all_used=all_used)
        self._settle(attempt, result)

    def _settle(self, attempt: _Attempt, result: Result) -> None:
        queued = attempt.queued
        now_s = self._clock()
        attempts = queued.delivery.attempts + 1
        delivery = msgspec.structs.replace(queued.delivery, attempts=attempts, reason=result.reason)
        where = f"{delivery.event} {delivery.id} to {self._name} ({self._channel.shown})"
        too_old = delivery.waits_since_s < now_s - KEEP_S
        if result.outcome == "delivered":
            self._outbox.done(delivery, now_s)
            log.info("%s delivered at attempt %d%s", where, attempts, f"; {result.reason}" if result.reason else "")
            self._metrics.deliveries.labels(receiver=self._name, outcome="delivered").inc()
            self._metrics.delivery_seconds.labels(receiver=self._name).observe(max(0.0, now_s - delivery.created_s))
            self._is_up()
        elif result.outcome == "limited" and not too_old:
            quiet_until_s = now_s + (result.retry_after_s or _LIMITED_S)
            self._quiet_until_s = max(self._quiet_until_s, quiet_until_s)
            same = msgspec.structs.replace(queued.delivery, reason=result.reason)
            self._outbox.retry(same, self._quiet_until_s, now_s)
            self._failed(where, result.reason, self._quiet_until_s - now_s)
        elif result.outcome == "failed" and queued.due_s > now_s:  # made only to find out whether the receiver is back
            self._outbox.retry(msgspec.structs.replace(queued.delivery, reason=result.reason), queued.due_s, now_s)
            self._failed(where, result.reason, queued.due_s - now_s)
            self._is_up_or_down(attempt, result, now_s)
        elif result.outcome == "failed" and attempts < len(self._waits_s):
            wait_s = max(self._waits_s[attempts] * random.uniform(1, 1.2), result.retry_after_s)  # noqa: S311
            self._outbox.retry(delivery, now_s + wait_s, now_s)
            self._failed(where, result.reason, wait_s)
            self._is_up_or_down(attempt, result, now_s)
        else:
            if result.outcome == "gone":
                self._outbox.disable(self._name, result.reason)
                log.error("%s is disabled until `newsquake deliveries enable`: %s", self._name, result.reason)
            elif result.outcome == "failed":
                self._is_up_or_down(attempt, result, now_s)
            self._dead(delivery, result.reason, now_s)

    def _failed(self, where: str, reason: str, wait_s: float) -> None:
        log.warning("%s failed (%s); the next attempt is due in %.0f s", where, reason, wait_s)
        self._metrics.deliveries.labels(receiver=self._name, outcome="failed").inc()

    def _dead(self, delivery: Delivery, reason: str, now_s: float) -> None:
        self._outbox.give_up(msgspec.structs.replace(delivery, reason=reason), now_s)
        log.error("%s %s to %s given up: %s", delivery.event, delivery.id, self._name, reason)
        self._metrics.deliveries.labels(receiver=self._name, outcome="dead").inc()

    def _is_up_or_down(self, attempt: _Attempt, failed: Result, now_s: float) -> None:
        if failed.part:
            self._is_up()
        elif attempt.began_s >= self._failed_s:  # else it was on its way with one that failed: they fail for one reason
            self._failed_s = time.monotonic()
            self._is_down(failed.reason, now_s)

    def _is_up(self) -> None:
        if self._breaker is not None and self._breaker.succeeded():
            self._outbox.set_down(self._name, None)
            self._probed.clear()
            log.info("%s is back; %d deliveries that waited are due", self._name, self._outbox.hasten(self._name))
            self._metrics.receiver_up.labels(receiver=self._name).set(1)

    def _is_down(self, reason: str, now_s: float) -> None:
        if self._breaker is not None and self._breaker.failed(now_s, reason):
            self._outbox.set_down(self._name, self._breaker.down)
            log.warning("%s is down (%s): its deliveries wait, and one at a time is tried", self._name, reason)
            self._metrics.receiver_up.labels(receiver=self._name).set(0)
