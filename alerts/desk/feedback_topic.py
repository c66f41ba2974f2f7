"""Brings what analysts say from the outbox in Redis to Kafka, at least once: what Kafka acknowledged leaves the outbox.

Words carry an id and their key says of what and by whom they are, so that a repeat changes nothing. Their order counts:
of several desks on one Redis one sends at a time, which holds a lease.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from redis import RedisError

from alerts.desk.metrics import DeskMetrics
from alerts.feedback import OUTBOX, Feedback

if TYPE_CHECKING:
    from redis import Redis

log = logging.getLogger(__name__)

_AT_ONCE, _LOOK_S, _WATCH_S, _LONGEST_S = 100, 0.5, 10.0, 30.0
LEASE = f"{OUTBOX}:sender"
"""Which desk sends; it runs out by itself, later than a batch can take."""
_LEASE_S, _TIMEOUT_S = 30.0, 10.0


class Kafka(NamedTuple):
    """Where the words go; without `bootstrap_servers` they stay in the outbox."""

    bootstrap_servers: str | None = None
    topic: str = "feedback"
    options: Mapping[str, Any] = MappingProxyType({})


class FeedbackTopic:
    """Runs in a thread of the desk."""

    def __init__(self, redis: Redis, kafka: Kafka, metrics: DeskMetrics) -> None:
        self._redis, self._kafka, self._metrics = redis, kafka, metrics
        self._feedback = Feedback(redis)
        self._name = uuid.uuid4().hex.encode()
        self._shown: set[tuple[str, str]] = set()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name="feedback", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; what is not sent waits for the next start."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _run(self) -> None:
        from kafka.errors import KafkaError

        from alerts.producers import close_producer

        wait_s, watched, producer = _LOOK_S, 0.0, None
        while not self._stop.is_set():
            try:
                if time.monotonic() - watched > _WATCH_S:
                    watched = time.monotonic()  # before: what cannot be shown must not keep what is said from Kafka
                    self._watch()
                sends = self._kafka.bootstrap_servers and self._leads()
                entries: Any = self._redis.xrange(OUTBOX, count=_AT_ONCE) if sends else []
                if entries:
                    producer = producer or self._producer()
                    self._send(producer, entries)
                wait_s = _LOOK_S
                if len(entries) == _AT_ONCE:
                    continue
            except RedisError as exc:
                wait_s = self._failed("Redis", exc, wait_s)
            except (KafkaError, OSError, ValueError) as exc:
                wait_s = self._failed("Kafka", exc, wait_s)
            except Exception as exc:  # a thread that ends silently would keep all that is said here
                log.exception("what analysts said: unexpected failure")
                wait_s = self._failed("unexpected", exc, wait_s)
            if wait_s > _LOOK_S:
                close_producer(producer, self._kafka.topic)  # what it holds must not come after what another sends
                producer = None
            self._stop.wait(wait_s)
        close_producer(producer, self._kafka.topic)
        with contextlib.suppress(RedisError):
            if self._redis.get(LEASE) == self._name:
                self._redis.delete(LEASE)

    def _leads(self) -> bool:
        """Take or renew the lease; return whether this desk has it."""
        if self._redis.set(LEASE, self._name, nx=True, ex=int(_LEASE_S)):
            return True
        return self._redis.get(LEASE) == self._name and bool(self._redis.expire(LEASE, int(_LEASE_S)))

    def _producer(self) -> Any:
        from kafka import KafkaProducer

        return KafkaProducer(
            **{
                "max_block_ms": int(_TIMEOUT_S * 1000),
                "delivery_timeout_ms": int(_TIMEOUT_S * 1000),  # what is not delivered by then never is
                "request_timeout_ms": int(_TIMEOUT_S * 500),
                "bootstrap_timeout_ms": int(_TIMEOUT_S * 1000),
                "reconnect_backoff_max_ms": 2_000,
                **self._kafka.options,
                "bootstrap_servers": self._kafka.bootstrap_servers,
                "acks": "all",
            }
        )

    def _send(self, producer: Any, entries: list[Any]) -> None:
        whole = [fields for _, fields in entries if b"key" in fields and b"said" in fields]
        if len(whole) < len(entries):
            log.error("%d entries of %s are nothing that anybody said: left out", len(entries) - len(whole), OUTBOX)
        sent = [producer.send(self._kafka.topic, key=fields[b"key"], value=fields[b"said"]) for fields in whole]
        end = time.monotonic() + 1.5 * _TIMEOUT_S
        for each in sent:
            each.get(timeout=max(0.0, end - time.monotonic()))
        self._redis.xdel(OUTBOX, *(entry for entry, _ in entries))
        self._metrics.feedback_sent.inc(len(whole))

    def _failed(self, server: str, exc: Exception, wait_s: float) -> float:
        wait_s = min(wait_s * 2, _LONGEST_S)
        self._metrics.feedback_errors.inc()
        log.warning(
            "what analysts said cannot be brought to Kafka (%s: %r); trying again in %.0f s", server, exc, wait_s
        )
        return wait_s

    def _watch(self) -> None:
        """Set the metrics of what stands in Redis."""
        metrics = self._metrics
        count, oldest_s = self._feedback.waiting(time.time())
        metrics.feedback_waiting.set(count)
        metrics.feedback_oldest_seconds.set(oldest_s)
        shown: set[tuple[str, str]] = set()
        for row in self._feedback.precision():
            name = row.name or "none"
            shown.add((row.by, name))
            for verdict, number in (("useful", row.useful), ("false_alarm", row.false_alarm)):
                metrics.verdicts.labels(by=row.by, name=name, verdict=verdict).set(number)
        for by, name in self._shown - shown:
            for verdict in ("useful", "false_alarm"):
                metrics.verdicts.remove(by, name, verdict)
        self._shown = shown
