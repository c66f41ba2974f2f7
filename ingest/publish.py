"""Publishing documents to Kafka: keyed by story, idempotent, acknowledged by all in-sync replicas."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kafka import KafkaProducer
from kafka.errors import (
    InvalidRecordError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)

from ingest.document import Document, encode

logger = logging.getLogger(__name__)

# What the broker will refuse however often it is sent.
_HOPELESS = (MessageSizeTooLargeError, RecordListTooLargeError, InvalidRecordError)


class PublishError(Exception):
    """Kafka did not acknowledge everything; the same documents must be published again."""


class Refused(NamedTuple):
    """A document that the broker will never take, and why."""

    document: Document
    reason: str


class Publisher:
    """A producer for one topic. Safe to share between threads.

    kafka-python does not bound its buffer; `publish` does, because it returns only when all it was given is
    acknowledged: a source has one batch in flight at most.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        *,
        kafka_options: Mapping[str, object] | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        """Prepare, without connecting.

        Args:
            bootstrap_servers: `host:port`, several separated by commas.
            topic: must exist; it is never created here.
            kafka_options: more options of `kafka.KafkaProducer`, such as those for TLS and SASL.
            timeout_s: how long a batch may take to be acknowledged.
        """
        self._topic = topic
        self._timeout_s = timeout_s
        self._options: dict[str, Any] = {
            "client_id": "newsquake-ingest",
            "compression_type": "lz4",
            "linger_ms": 20,
            "batch_size": 131_072,
            "max_block_ms": 10_000,
            "bootstrap_timeout_ms": 10_000,
            "delivery_timeout_ms": int(timeout_s * 1_000),
            "request_timeout_ms": int(min(30.0, timeout_s * 0.9) * 1_000),
            "reconnect_backoff_max_ms": 2_000,
            "metrics_enabled": False,
            **(kafka_options or {}),
            "bootstrap_servers": bootstrap_servers.split(","),
            "acks": "all",
            "enable_idempotence": True,
            "allow_auto_create_topics": False,
        }
        self._lock = threading.Lock()
        self._producer: KafkaProducer | None = None

    def connect(self) -> None:
        """Connect and look the topic up.

        Raises:
            PublishError: no broker answers, or the topic does not exist.
        """
        producer = self._ready()
        try:
            producer.partitions_for(self._topic)
        except KafkaTimeoutError as exc:
            raise PublishError(f"the broker does not know the topic {self._topic!r}: {exc}") from exc
        except KafkaError as exc:
            raise PublishError(f"the topic {self._topic!r} cannot be looked up: {exc}") from exc

    def publish(self, documents: Sequence[Document]) -> list[Refused]:
        """Send `documents` and wait until each is acknowledged; return those that the broker will never take.

        Raises:
            PublishError: at least one was not acknowledged. Publish all of them again: ids make repeats harmless.
        """
        if not documents:
            return []
        producer = self._ready()
        try:
            sent = [(document, self._send(producer, document)) for document in documents]
            producer.flush(timeout=self._timeout_s)
            return [Refused(document, reason) for document, future in sent if (reason := self._outcome(future))]
        except KafkaError as exc:
            # An idempotent producer may be unusable for good: after errors, and, seen once with kafka-python 3.0.12,
            # after a broker came back, when it never sent again and every batch timed out.
            self._discard(producer)
            raise PublishError(f"Kafka did not take {len(documents)} documents: {exc}") from exc

    def close(self, timeout_s: float = 10.0) -> None:
        """Close the producer. What was published is acknowledged already, so nothing can be lost here."""
        with self._lock:
            producer, self._producer = self._producer, None
        if producer is not None:
            _close(producer, timeout_s)

    def _ready(self) -> KafkaProducer:
        with self._lock:
            if self._producer is None:
                try:
                    self._producer = KafkaProducer(**self._options)
                except KafkaError as exc:
                    raise PublishError(
                        f"no Kafka broker answers at {self._options['bootstrap_servers']}: {exc}"
                    ) from exc
            return self._producer

    def _discard(self, producer: KafkaProducer) -> None:
        with self._lock:
            if self._producer is not producer:
                return  # another thread was first
            self._producer = None
        logger.warning("The Kafka producer failed; a new one takes its place.")
        _close(producer, 0.0)

    def _send(self, producer: KafkaProducer, document: Document) -> Any:
        try:
            return producer.send(self._topic, key=document.story.encode(), value=encode(document))
        except _HOPELESS as exc:
            return exc

    def _outcome(self, future: Any) -> str:
        """Return why the record can never be taken; an empty string when it is acknowledged; else raise its error."""
        if isinstance(future, Exception):
            return str(future)
        try:
            future.get(timeout=self._timeout_s)
        except _HOPELESS as exc:
            return str(exc)
        return ""


def _close(producer: KafkaProducer, timeout_s: float) -> None:
    try:
        producer.close(timeout=timeout_s)
    except KafkaError:
        # kafka-python 3.0 gives up closing when records are left that no broker takes. Their publishers were told;
        # end its thread, after which closing works.
        producer._sender.force_close()
        producer._sender.join(5.0)
        try:
            producer.close(timeout=1.0)
        except KafkaError as exc:
            logger.warning("The Kafka producer did not close in order (%s); its thread ends with the process.", exc)
