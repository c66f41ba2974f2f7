"""Names of columns: what is new comes after what contains it, and counts find their columns, each cell once."""

from __future__ import annotations

from alerts.names import Names
from alerts.rolling import COPIES, NEGATIVES, OTHERS
from alerts.windows import COPY, NEGATIVE, Count

COUNTS: dict[Count, int] = {
    ("company=A;topic=T", 100, "neutral"): 2,
    ("company=A;topic=T", 100, "positive"): 3,
    ("company=A;topic=T", 102, "neutral"): 4,  # ahead of its arrival: it counts as now
    ("company=A;topic=T", 70, NEGATIVE): 5,
    ("market", 100, COPY): 6,
    ("topic=T", 100, "neutral"): 7,
}


def test_what_lacks_a_column_comes_after_what_contains_it() -> None:
    names = Names(["market"])
    assert not names.knows(COUNTS)
    assert names.lacking(COUNTS) == ["company=A", "company=A;topic=T", "topic=T"]
    names.append(names.lacking(COUNTS))
    assert names.knows(COUNTS)
    assert names.lacking(COUNTS) == []
    assert names.parents(names.all) == [-1, 0, 1, 0]
    assert names.parts("market") == ["company=A", "topic=T"]
    assert names.parts("topic=T") == ["company=A;topic=T"]
    assert names.with_parents([2]).tolist() == [0, 1, 2]
    assert names.with_parents([]).tolist() == []


def test_counts_find_their_columns_each_kind_minute_and_series_once() -> None:
    names = Names(["market", "company=A", "company=A;topic=T"])
    arrivals, refused = names.arrivals(100, COUNTS)
    assert refused == 7
    cells = zip(*(each.tolist() for each in arrivals), strict=True)
    assert sorted(cells) == [(NEGATIVES, 70, 2, 5), (OTHERS, 100, 2, 9), (COPIES, 100, 0, 6)]
    nothing, refused = Names().arrivals(100, COUNTS)
    assert nothing.heard.size == 0
    assert refused == 27
