"""Sends the deliveries of one endpoint, in its own thread: a slow receiver delays no other."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from redis import RedisError

from alerts.metrics import AlertsMetrics
from alerts.outbox import Delivery, Outbox
from alerts.webhook import Endpoint, Result

log = logging.getLogger(__name__)

RETRY_S = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Waits before each attempt (Standard Webhooks' schedule); after the last the delivery is dead."""


class Sender:
    """Tries what is due, in order; writes down what came of it."""

    def __init__(
        self,
        endpoint: Endpoint,
        outbox: Outbox,
        metrics: AlertsMetrics,
        clock: Callable[[], float],
        *,
        waits_s: tuple[float, ...] = RETRY_S,
        poll_s: float = 0.5,
    ) -> None:
        self._endpoint = endpoint
        self._outbox = outbox
        self._metrics = metrics
        self._clock = clock
        self._waits_s = waits_s
        self._poll_s = poll_s

    def run(self, stop: threading.Event) -> None:
        """Send until `stop` is set. While Redis cannot answer, wait and try again."""
        wait_s = self._poll_s
        while not stop.is_set():
            try:
                if self.step():
                    continue
                wait_s = self._poll_s
            except RedisError as exc:
                wait_s = min(wait_s * 2, 30.0)
                self._metrics.redis_errors.inc()
                log.warning(
                    "outbox of %s: Redis failed (%s); trying again in %.1f s", self._endpoint.shown, exc, wait_s
                )
            except Exception:  # a thread that ends silently would stop all alerts of this receiver
                wait_s = 30.0
                log.exception("outbox of %s: unexpected failure; trying again in 30 s", self._endpoint.shown)
            stop.wait(wait_s)

    def step(self) -> bool:
        """Make the attempt that is due; return False when none is."""
        now_s = self._clock()
        delivery = self._outbox.next_due(self._endpoint.id, now_s)
        if delivery is None:
            return False
        disabled = self._outbox.disabled(self._endpoint.id)
        if disabled is not None:
            result = Result("refused", f"the endpoint is disabled: {disabled}")
        else:
            result = self._endpoint.send(delivery, datetime.fromtimestamp(now_s, UTC))
        self._settle(msgspec.structs.replace(delivery, attempts=delivery.attempts + 1, reason=result.reason), result)
        return True

    def _settle(self, delivery: Delivery, result: Result) -> None:
        where = f"{delivery.event} {delivery.id} to {self._endpoint.shown}"
        if result.outcome == "delivered":
            self._outbox.done(delivery)
            log.info("%s delivered at attempt %d", where, delivery.attempts)
        elif result.outcome == "failed" and delivery.attempts < len(self._waits_s):
            wait_s = max(self._waits_s[delivery.attempts] * random.uniform(1, 1.2), result.retry_after_s)  # noqa: S311
            self._outbox.retry(delivery, self._clock() + wait_s)
            log.warning("%s failed (%s); attempt %d in %.0f s", where, delivery.reason, delivery.attempts + 1, wait_s)
            self._metrics.deliveries.labels(outcome="failed").inc()
            return
        else:
            if result.outcome == "gone":
                self._outbox.disable(self._endpoint.id, result.reason)
                log.error("%s is disabled: %s", self._endpoint.shown, result.reason)
            self._outbox.give_up(delivery)
            log.error("%s given up after attempt %d: %s", where, delivery.attempts, delivery.reason)
        outcome = "delivered" if result.outcome == "delivered" else "dead"
        self._metrics.deliveries.labels(outcome=outcome).inc()
