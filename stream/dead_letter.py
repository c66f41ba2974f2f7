"""`DeadLetter`: a record that could not be read or scored; the records of topic `documents.dead`."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from ingest.document import Time
from stream.record import Record

SCHEMA_VERSION = 1


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """Where the record stood, when it was written (`timestamp`), why it failed, and its first bytes (base64)."""

    topic: str
    partition: int
    offset: int
    timestamp: Time | None
    failed_at: Time
    reason: str
    key: bytes | None
    value: bytes | None
    value_bytes: int
    schema: int = SCHEMA_VERSION


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(DeadLetter).decode


def dead_letter(topic: str, record: Record, reason: str, value_limit_bytes: int) -> DeadLetter:
    """Return the dead letter of a record; its value is cut to `value_limit_bytes`, the whole stays in `topic`."""
    return DeadLetter(
        topic=topic,
        partition=record.partition,
        offset=record.offset,
        timestamp=_time(record.timestamp_ms),
        failed_at=datetime.now(UTC),
        reason=reason[:1_000],
        key=record.key[:1_024] if record.key is not None else None,
        value=record.value[:value_limit_bytes] if record.value is not None else None,
        value_bytes=len(record.value or b""),
    )


def _time(timestamp_ms: int) -> datetime | None:
    """Kafka's record time; a producer may have written anything there."""
    try:
        return datetime.fromtimestamp(timestamp_ms / 1000, UTC) if timestamp_ms >= 0 else None
    except (ValueError, OverflowError, OSError):
        return None
