"""Dead letters: what they say, and that anything can become one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stream.dead_letter import DeadLetter, dead_letter, decode, encode
from stream.record import Record
from stream.settings import StreamSettings


def test_it_says_where_when_and_why_and_keeps_the_bytes() -> None:
    record = Record(3, 17, 1_700_000_000_000, b"key", b"\xff\x00 not JSON")
    letter = decode(encode(dead_letter("documents", record, "no JSON", 100)))
    assert (letter.topic, letter.partition, letter.offset, letter.reason) == ("documents", 3, 17, "no JSON")
    assert letter.timestamp == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert (letter.key, letter.value, letter.value_bytes) == (b"key", b"\xff\x00 not JSON", 11)


@given(
    timestamp_ms=st.integers(-(2**63), 2**63 - 1),
    key=st.none() | st.binary(max_size=3_000),
    value=st.none() | st.binary(max_size=300),
    reason=st.text(max_size=3_000),
    limit=st.integers(0, 200),
)
def test_any_record_becomes_a_bounded_letter(
    timestamp_ms: int, key: bytes | None, value: bytes | None, reason: str, limit: int
) -> None:
    letter: DeadLetter = decode(encode(dead_letter("d", Record(0, 0, timestamp_ms, key, value), reason, limit)))
    assert letter.value == (None if value is None else value[:limit])
    assert letter.value_bytes == len(value or b"")
    assert len(letter.key or b"") <= 1_024
    assert len(letter.reason) <= 1_000


def test_the_largest_letter_that_settings_allow_fits_into_a_batch_of_the_producer() -> None:
    most = 262_144
    StreamSettings(dead_value_bytes=most)
    letter = dead_letter("documents", Record(0, 0, 0, b"k" * 10_000, b"x" * 1_000_000), "\0" * 5_000, most)
    assert len(encode(letter)) + len(letter.key or b"") < 512 * 1024
    with pytest.raises(ValidationError):
        StreamSettings(dead_value_bytes=most + 1)
