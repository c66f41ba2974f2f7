"""Sends the deliveries of one receiver, in its own thread: a slow or dead receiver delays no other."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from redis import RedisError

from alerts.alert import AlertError
from alerts.breaker import Breaker, Pace
from alerts.channels.channel import Channel, Result
from alerts.delivery import Delivery
from alerts.digest import digest_of, foldable
from alerts.metrics import AlertsMetrics
from alerts.notification import decode_notification
from alerts.outbox import Outbox, Queued
from alerts.replay import TOLD_LATER, still_news

log = logging.getLogger(__name__)

RETRY_S = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Waits before each attempt (Standard Webhooks' schedule); after the last the delivery is dead."""
KEEP_S = sum(RETRY_S) * 1.2
"""How long a delivery is kept that is not tried on that schedule, because its receiver is down or wants no more now."""
_LIMITED_S = 30.0
_SEEN, _SWEPT = 200, 5_000


class Sender:
    """Tries what is due, in order; writes down what came of it.

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
        self._pace = Pace(channel.per_minute)
        self._breaker: Breaker | None = None  # as Redis knows it, once it answers
        self._quiet_until_s = 0.0
        self._now_s = math.inf  # when it looked last
        self._stop = threading.Event()
        self._probed: set[str] = set()
        metrics.receiver(self._name)

    def run(self, stop: threading.Event) -> None:
        """Send until `stop` is set. While Redis cannot answer, wait and try again."""
        wait_s, self._stop = self._poll_s, stop
        while not stop.is_set():
            try:
                if self.step():
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

    def step(self) -> bool:
        """Make the attempt that is due; return False when none is."""
        now_s = self._clock()
        if self._breaker is None:
            self._breaker = Breaker(self._outbox.down(self._name))
            if self._breaker.down is None:
                self._outbox.set_down(self._name, None)  # if it cannot be read, it would be said for ever
            self._pace = Pace(self._channel.per_minute, self._outbox.sent(self._name))
            self._metrics.receiver_up.labels(receiver=self._name).set(self._breaker.down is None)
        if now_s < self._now_s:
            self._set_back(now_s)
        self._now_s = now_s
        disabled = self._outbox.disabled(self._name)
        if disabled is not None:
            due = self._outbox.due(self._name, now_s)
            for delivery in due:
                self._dead(delivery, f"the receiver is disabled: {disabled}", now_s)
            return bool(due)
        room = self._pace.room(now_s)
        if room < 1 or now_s < self._quiet_until_s or not self._breaker.allows(now_s):
            return False
        if self._breaker.down is not None:
            return self._probe(now_s)
        found = self._outbox.due(self._name, now_s, (room == 1 and self._channel.digests) or 1)
        due = [left for each in found if (left := self._still_news(each, now_s)) is not None]
        if not due:
            return bool(found)
        delivery = due[0]
        if len(due) > 1 and delivery.event != "alert.digest":
            folded = self._folded(due, now_s)
            if folded is None:
                return True
            delivery = folded
        self._attempt(Queued(now_s, delivery), now_s)
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
            self._attempt(msgspec.structs.replace(fresh[0], delivery=left), now_s)
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

    def _attempt(self, queued: Queued, now_s: float) -> None:
        delivery = queued.delivery
        try:
            told = decode_notification(delivery.body)
        except AlertError as exc:
            self._dead(delivery, str(exc), now_s)
            return
        if self._stop.is_set() or not self._outbox.begin(delivery, now_s, self._channel.per_minute):
            return  # another process leads by now, and may have sent it
        self._pace.sent(now_s, 1 if self._channel.digests else len(told.alerts))
        try:
            result = asyncio.run(self._channel.send(told, datetime.fromtimestamp(now_s, UTC)))
        except Exception as exc:  # a mistake of ours in one message must not hold up all those behind it
            log.exception("%s %s to %s: unexpected failure", delivery.event, delivery.id, self._name)
            self._metrics.unexpected_errors.labels(part="sending").inc()
            result = Result("failed", f"unexpected {type(exc).__name__}")
        self._settle(queued, result)

    def _settle(self, queued: Queued, result: Result) -> None:
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
            self._quiet_until_s = now_s + (result.retry_after_s or _LIMITED_S)
            same = msgspec.structs.replace(queued.delivery, reason=result.reason)
            self._outbox.retry(same, self._quiet_until_s, now_s)
            self._failed(where, result.reason, self._quiet_until_s - now_s)
        elif result.outcome == "failed" and queued.due_s > now_s:  # made only to find out whether the receiver is back
            self._outbox.retry(msgspec.structs.replace(queued.delivery, reason=result.reason), queued.due_s, now_s)
            self._failed(where, result.reason, queued.due_s - now_s)
            self._is_up_or_down(result, now_s)
        elif result.outcome == "failed" and attempts < len(self._waits_s):
            wait_s = max(self._waits_s[attempts] * random.uniform(1, 1.2), result.retry_after_s)  # noqa: S311
            self._outbox.retry(delivery, now_s + wait_s, now_s)
            self._failed(where, result.reason, wait_s)
            self._is_up_or_down(result, now_s)
        else:
            if result.outcome == "gone":
                self._outbox.disable(self._name, result.reason)
                log.error("%s is disabled until `newsquake deliveries enable`: %s", self._name, result.reason)
            elif result.outcome == "failed":
                self._is_up_or_down(result, now_s)
            self._dead(delivery, result.reason, now_s)

    def _failed(self, where: str, reason: str, wait_s: float) -> None:
        log.warning("%s failed (%s); the next attempt is due in %.0f s", where, reason, wait_s)
        self._metrics.deliveries.labels(receiver=self._name, outcome="failed").inc()

    def _dead(self, delivery: Delivery, reason: str, now_s: float) -> None:
        self._outbox.give_up(msgspec.structs.replace(delivery, reason=reason), now_s)
        log.error("%s %s to %s given up: %s", delivery.event, delivery.id, self._name, reason)
        self._metrics.deliveries.labels(receiver=self._name, outcome="dead").inc()

    def _is_up_or_down(self, failed: Result, now_s: float) -> None:
        if failed.part:
            self._is_up()
        else:
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
