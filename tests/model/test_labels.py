"""Files of one's own labels, and near copies between sets."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.copies import near_copies, without_copies
from model.data import UNLABELLED, with_sentiment
from model.errors import DataError
from model.label_file import read_labels, read_texts

_ROWS = [
    {"text": "Acme is sued", "sentiment": "bad", "topic": "", "weight": "2.5"},
    {"text": "Borel &amp; Co soars https://t.co/x", "sentiment": "good", "topic": "prices", "weight": ""},
]


def _write(path: Path, kind: str) -> Path:
    import csv
    import json

    path = path / f"mine.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(_ROWS), path)
    elif kind == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(_ROWS[0]))
            writer.writeheader()
            writer.writerows(_ROWS)
    else:
        path.write_text("".join(json.dumps(row) + "\n\n" for row in _ROWS))
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "ndjson", "parquet"])
def test_the_same_rows_from_every_format(kind: str, tmp_path: Path) -> None:
    data = read_labels(_write(tmp_path, kind))
    assert data.texts == ("Acme is sued", "Borel & Co soars")
    assert (data.sentiment_labels, data.topic_labels) == (("bad", "good"), ("prices",))
    assert (data.sentiment, data.topic, data.weight) == ((0, 1), (UNLABELLED, 0), (2.5, 1.0))
    assert read_texts(_write(tmp_path, kind)).texts == data.texts
    assert read_labels(_write(tmp_path, kind), ("good", "bad", "so-so")).sentiment == (1, 0)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl", '{"text": "x", "sentiment": "up"}\n{"text": "y"}\n', "line 2: neither 'sentiment' nor 'topic'"),
        ("a.jsonl", '{"text": 5, "sentiment": "up"}\n', "line 1, column 'text': '5' is no text"),
        ("a.jsonl", '{"text": "x", "sentiment": "up", "weight": -1}\n', "line 1, column 'weight': '-1'"),
        ("a.jsonl", "[1]\n", "line 1: not a JSON object"),
        ("a.jsonl", "{\n", "line 1: not JSON"),
        ("a.jsonl", "\n", "holds no rows"),
        ("a.csv", "text,topic\nx,odd\n", "row 2, column 'topic': 'odd' is none of even"),
        ("a.csv", "headline,topic\nx,odd\n", "column 'text' is missing; it has headline, topic"),
        ("a.parquet", "no parquet", "cannot be read"),
        ("a.xlsx", "", r"must end in \.csv, \.jsonl"),
    ],
)
def test_a_wrong_row_is_named(name: str, content: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=reason):
        read_labels(tmp_path / name, (), ("even",) if name == "a.csv" else ())


_TEXTS = st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6).map(" ".join), max_size=12)


@given(_TEXTS, _TEXTS, st.sampled_from([0.5, 0.7, 0.8, 1.0]))
def test_near_copies_are_all_those_there_are(texts: list[str], of: list[str], at_least: float) -> None:
    def alike(a: str, b: str) -> bool:
        one, two = set(a.split()), set(b.split())
        return len(one & two) / len(one | two) >= at_least

    assert near_copies(texts, of, at_least) == [i for i, text in enumerate(texts) if any(alike(text, o) for o in of)]


def test_copies_are_left_out() -> None:
    data = with_sentiment("x", ("a",), [("Acme profit up again", 0), ("Borel is sued", 0)])
    assert without_copies(data, with_sentiment("y", ("a",), [("acme profit up, again!", 0)])).texts == (
        "Borel is sued",
    )
