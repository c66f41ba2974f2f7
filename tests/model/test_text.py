from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.text import MAX_CHARS, clean


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("AT&amp;T cut at Citi  https://t.co/abc", "AT&T cut at Citi"),
        ("$SIVB halted, see www.example.com/x?y=1 now", "$SIVB halted, see now"),
        ("a\x00b\n\tc\x85d", "a b c d"),
        ("", ""),
        ("https://only.example/url", ""),
    ],
)
def test_what_the_network_reads(raw: str, cleaned: str) -> None:
    assert clean(raw) == cleaned


@given(st.text(st.characters(codec=None), max_size=300))
def test_any_string_comes_out_as_short_valid_text(raw: str) -> None:
    cleaned = clean(raw)
    cleaned.encode("utf-8")
    assert cleaned == cleaned.strip()
    assert "\x00" not in cleaned


def test_work_is_bounded() -> None:
    start = "&amp; word " * MAX_CHARS
    assert clean(start * 100) == clean(start[:MAX_CHARS])
