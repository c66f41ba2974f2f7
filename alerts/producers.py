"""Closing a producer of Kafka's: however it goes, its thread ends and sends nothing later, and nothing is raised."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kafka.errors import KafkaError

if TYPE_CHECKING:
    from kafka import KafkaProducer

log = logging.getLogger(__name__)

_CLOSE_S, _JOIN_S = 1.0, 5.0


def close_producer(producer: KafkaProducer | None, of: str) -> None:
    """Close it, when there is one; it is the producer `of` a topic or a part.

    kafka-python 3.0 raises when it still holds records that no broker takes, and leaves its thread running: with each
    such producer a thread and its connections would stay, and what it holds could come after what another sends.
    """
    if producer is None:
        return
    try:
        producer.close(timeout=_CLOSE_S)
        return
    except KafkaError as exc:
        log.warning("a producer of %s holds what nobody takes (%r) and gives it up", of, exc)
    except Exception:  # whoever closes it could go on without
        log.exception("a producer of %s did not close in order", of)
    try:
        sender = producer._sender  # its public ways to end all wait for the broker first
        if sender is not None:
            sender.force_close()
            sender.join(_JOIN_S)
        producer.close(timeout=_CLOSE_S)
    except Exception:  # the same; its thread is a daemon's
        log.warning("a producer of %s did not close; its thread ends with the process", of, exc_info=True)
