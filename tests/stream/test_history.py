"""What a backtest keeps of a file: items in the order seen, bad rows by number, scores once a text and model."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alerts.settings import WindowsSettings
from ingest.settings import ReplaySettings
from stream.history import History, HistoryError, Input, columns_of
from stream.kept_windows import Made
from stream.settings import StreamSettings

START = datetime(2023, 3, 10, tzinfo=UTC).timestamp()
ROWS = [
    {"date": "2023-03-10T00:02:00Z", "headline": "Second bank falls", "source": "Daily"},
    {"date": "2023-03-10T01:01:00+01:00", "headline": "First bank falls", "source": "Weekly"},
    {"date": str(int(START * 1000) + 180_000), "headline": "Third bank falls", "source": "Daily"},
    {"date": str(int(START) + 240), "headline": "Fourth bank falls", "source": "Daily"},
]


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with closing(History(tmp_path / "kept.sqlite")) as found:
        yield found


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes rows as the name of the file says."""

    def do(name: str, rows: list[dict[str, Any]]) -> Path:
        path = tmp_path / name
        if name.endswith(".parquet"):
            pq.write_table(pa.Table.from_pylist(rows), path)
            return path
        opened = gzip.open if name.endswith(".gz") else open
        with opened(path, "wt", encoding="utf-8", newline="") as out:
            if ".csv" in name:
                writer = csv.DictWriter(out, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
            else:
                out.writelines(json.dumps(row) + "\n" for row in rows)
        return path

    return do


def settings(file: Path, **columns: str) -> ReplaySettings:
    return ReplaySettings(file=file, columns=columns_of(file, columns), name="backtest")


def titles(history: History, together: int = 3) -> list[str]:
    return [document.title for part in history.documents(together) for document in part]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_every_format_and_kind_of_time_is_read_and_put_in_order(history, write, name):
    assert history.read(settings(write(name, ROWS))) == Input(rows=4, items=4, bad=0)
    assert titles(history) == ["First bank falls", "Second bank falls", "Third bank falls", "Fourth bank falls"]


def test_bad_rows_are_left_out_and_told_by_number(history, write):
    wrong = [{**ROWS[0], "date": "soon"}, ROWS[1], {**ROWS[1], "headline": "  "}, {**ROWS[2], "date": "2999-01-01"}]
    assert history.read(settings(write("a.csv", wrong))) == Input(rows=4, items=1, bad=3)
    assert [row for row, _ in history.bad_rows()] == [1, 3, 4]
    assert "soon" in history.bad_rows()[0][1]
    assert "future" in history.bad_rows()[2][1]


def test_a_file_of_bad_rows_alone_is_refused_with_the_reasons(history, write):
    with pytest.raises(HistoryError, match="row 1: 'soon' is not a time"):
        history.read(settings(write("a.csv", [{**ROWS[0], "date": "soon"}])))


def test_a_cut_file_is_refused_and_what_was_kept_before_stays(history, write, tmp_path):
    whole = write("a.csv.gz", ROWS * 200)
    history.read(settings(write("b.csv", ROWS)))
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(whole.read_bytes()[:-40])
    with pytest.raises(HistoryError, match="cannot be read to its end"):
        history.read(settings(cut, time="date"))
    assert len(titles(history)) == 4


def test_another_file_or_other_columns_replace_the_items(history, write):
    history.read(settings(write("a.csv", ROWS)))
    history.read(settings(write("b.csv", ROWS[:1])))
    assert titles(history) == ["Second bank falls"]
    history.read(settings(write("b.csv", ROWS[:1]), text="source", title="source"))
    assert titles(history) == ["Daily"]


def test_missing_columns_are_named(write):
    file = write("a.csv", ROWS)
    with pytest.raises(HistoryError, match="no column 'body'; it has date, headline, source"):
        columns_of(file, {"text": "body"})
    with pytest.raises(HistoryError, match=r"no column 'Headlines'; did you mean headline\?; it has date"):
        columns_of(file, {"text": "Headlines"})
    with pytest.raises(HistoryError, match="--time COLUMN"):
        columns_of(write("b.csv", [{"when": "1", "what": "2"}]), {})


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", b"", "is empty: a CSV needs a header"),
        ("a.csv", b"\n\n", "is empty: a CSV needs a header"),
        ("a.csv", b"\x1b[2Jwhen,what\n1,2\n", r"has the columns '\\x1b\[2Jwhen', what: say which"),
        ("a.jsonl", b'{"time": \n[1, 2]\n', "holds no JSON object"),
        ("a.csv.gz", b"time,text\n", "cannot be read"),
        ("a.parquet", b"PAR1 and no more", "cannot be read"),
        ("a.txt", b"time,text\n", r"give \.csv, \.jsonl or \.parquet"),
    ],
)
def test_rubbish_is_one_clear_error_that_leaves_the_terminal_alone(tmp_path, name, content, told):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(HistoryError, match=told) as caught:
        columns_of(path, {})
    assert str(caught.value).isprintable()


def test_a_text_is_scored_once_by_each_model_and_gets_the_same_scores_again(tmp_path, hash_scorer):
    texts = ["bank falls", "bank rises", "bank falls"]
    with closing(History(tmp_path / "kept.sqlite")) as history:
        first = history.scorer(hash_scorer)
        scores = first.score(texts)
        assert first.asked == 2
    hash_scorer.broken = True
    with closing(History(tmp_path / "kept.sqlite")) as history:
        again = history.scorer(hash_scorer).score(texts)
        hash_scorer.fingerprint = "another"
        with pytest.raises(ValueError, match="poison"):
            history.scorer(hash_scorer).score(texts)
    assert np.array_equal(scores.sentiment, again.sentiment)
    assert np.array_equal(scores.topic, again.topic)


@pytest.fixture
def counted(history, write, hash_scorer) -> Callable[..., bool]:
    """Says whether windows are kept that were counted of these items, or others, with these fields of the scorer."""
    file = write("items.jsonl", ROWS)

    def do(**fields: Any) -> bool:
        scorer = history.scorer(hash_scorer)
        for name, value in fields.items():
            setattr(scorer, name, value)
        return history.windows(scorer, 8, WindowsSettings(), StreamSettings()).made() is not None

    history.read(settings(file))
    history.windows(history.scorer(hash_scorer), 8, WindowsSettings(), StreamSettings()).finish(
        Made(first=1, last=2, ends=[90.0], outcomes={})
    )
    return do


def test_windows_are_kept_by_what_labels_are_called(counted: Callable[..., bool]) -> None:
    assert counted()
    assert not counted(sentiment_labels=("positive", "neutral", "negative"))
    assert not counted(topic_labels=("Other",))
    assert counted()


def test_items_that_are_read_anew_are_counted_anew(history, write, counted: Callable[..., bool]) -> None:
    before = settings(write("items.jsonl", ROWS))
    history.read(settings(write("more.jsonl", ROWS[:2])))
    history.read(before)  # a time that lay in the future may not do so any more
    assert not counted()


def test_what_fails_below_the_windows_is_told(history, write, hash_scorer) -> None:
    history.read(settings(write("items.jsonl", ROWS)))
    kept = history.windows(history.scorer(hash_scorer), 8, WindowsSettings(), StreamSettings())
    history.close()
    for call in (kept.made, kept.begin, kept.places, lambda: kept.counts([1]), lambda: list(kept.all())):
        with pytest.raises(HistoryError, match=r"kept\.sqlite"):
            call()


def test_one_run_at_a_time_has_the_file(tmp_path: Path) -> None:
    path = tmp_path / "kept.sqlite"
    for _ in range(2):  # when it is new, and when it was there
        with closing(History(path)), pytest.raises(HistoryError, match="another backtest is at work"):
            History(path)


def test_a_file_that_is_no_database_is_told_and_left_alone(tmp_path):
    path = tmp_path / "kept.sqlite"
    path.write_bytes(b"these are notes of my own\n" * 100)
    with pytest.raises(HistoryError, match=r"kept\.sqlite"):
        History(path)
    assert path.read_bytes().startswith(b"these are notes")
