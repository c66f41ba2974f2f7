import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.symbols import MAX_SYMBOLS, companies


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$AAPL and $msft up", ("AAPL", "MSFT")),
        ("Beat $C! $T, $BRK.B $brk.b $BF-B.", ("C", "T", "BRK.B", "BF.B")),
        ("$AAPL$MSFT $AAPL", ("AAPL",)),
        ("paid $5, $5m, $1.5B, $USD 5, $USD5m, US$AAPL, in $m and $bn", ()),
        ("A$AP $a $toolongticker $", ()),
        ("Apple (NASDAQ: AAPL) and Berkshire (NYSE:BRK.B)", ("AAPL", "BRK.B")),
        ("(Nasdaq: GOOG, GOOGL; NYSE: C) [OTCQB: ABCD]", ("GOOG", "GOOGL", "C", "ABCD")),
        ("Telus (TSX: T) is not (NYSE: T); BP (LSE: BP.)", ("T.TO", "T", "BP.L")),
        ("(Ratio: 5) (Source: AAPL) NYSE: no brackets", ()),
        ("$AAPL\u2019s", ("AAPL",)),
    ],
)
def test_companies(text: str, expected: tuple[str, ...]) -> None:
    assert companies(text) == expected


def test_those_known_from_elsewhere_come_last_and_must_be_symbols() -> None:
    assert companies("$AAPL", ["$aapl", "brk-b", "not a symbol", "", "\u00c4"]) == ("AAPL", "BRK.B")


@given(st.text(max_size=400) | st.lists(st.from_regex(r"\$[A-Z]{1,5}", fullmatch=True), max_size=60).map(" ".join))
def test_result_always_fits_a_document(text: str) -> None:
    found = companies(text)
    assert len(found) <= MAX_SYMBOLS
    assert len(set(found)) == len(found)
    assert all(re.fullmatch(r"[A-Z0-9][A-Z0-9.\-]{0,15}", symbol) for symbol in found)
