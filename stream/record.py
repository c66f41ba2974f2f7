"""`Record`: what the path needs of a Kafka record, whichever client read it; and the names of the topics."""

from __future__ import annotations

from typing import NamedTuple


class Record(NamedTuple):
    """One record of `documents`; `timestamp_ms` is Kafka's, in Unix milliseconds (negative: none)."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


class Topics(NamedTuple):
    """Names of the Kafka topics."""

    documents: str
    scored: str
    dead: str
