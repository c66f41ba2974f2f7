"""What all records of ours in Redis and on Kafka share: what it means that one cannot be read, and what a time is."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding raises: another version wrote it, or another hand, which may have nested it too deeply."""
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time with its zone. One without cannot be compared with others: one such record would stop whoever sorts them."""


def name_of(raw: bytes) -> str:
    """Return what a key or a field is called; one that is no text names nothing of ours, and is no error."""
    return raw.decode("utf-8", "replace")
