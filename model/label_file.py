"""Labels in a file of one's own: CSV, JSON Lines or Parquet with `text`, `sentiment` and/or `topic`, perhaps `weight`.

`model/data/events.jsonl`, which ships, is such a file: headlines, posts and filings' sentences in our own words on what
price headlines do not show, with `event` (texts on one happening stay on one side of a split) and `part` beside them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from model.data import UNLABELLED, Labelled, csv_rows, read_text, unlabelled
from model.errors import DataError
from model.text import clean

EVENTS_NAME = "events"
EVENTS = Path(__file__).parent / "data" / "events.jsonl"


def read_labels(
    path: Path,
    sentiment_labels: Sequence[str] = (),
    topic_labels: Sequence[str] = (),
    *,
    name: str = "",
    part: str = "",
) -> Labelled:
    """The rows of the file, or those whose column `part` is `part`.

    Labels not given are the file's own, in alphabetical order. An empty label means that the row has none.

    Raises:
        DataError: the file cannot be read, or a row has no text, an unknown label, or a weight that is no number.
    """
    rows = [(where, row) for where, row in _rows(path) if not part or row.get("part") == part]
    labels = {"sentiment": tuple(sentiment_labels), "topic": tuple(topic_labels)}
    for column, given in labels.items():
        found = {str(row[column]) for _, row in rows if row.get(column) not in (None, "")}
        labels[column] = given or tuple(sorted(found))
    texts, weights = [], []
    targets: dict[str, list[int]] = {"sentiment": [], "topic": []}
    for where, row in rows:
        texts.append(_text(row, f"{path}: {where}"))
        for column, into in targets.items():
            into.append(_target(row.get(column), labels[column], f"{path}: {where}, column {column!r}"))
        if targets["sentiment"][-1] == targets["topic"][-1] == UNLABELLED:
            raise DataError(f"{path}: {where}: neither 'sentiment' nor 'topic' has a label")
        weights.append(_weight(row.get("weight"), f"{path}: {where}, column 'weight'"))
    if not texts:
        raise DataError(f"{path}: holds no rows" + (f" of part {part!r}" if part else ""))
    return Labelled(
        name or path.stem,
        tuple(texts),
        tuple(targets["sentiment"]),
        tuple(targets["topic"]),
        tuple(weights),
        labels["sentiment"],
        labels["topic"],
    )


def read_events(
    part: Literal["train", "test"], sentiment_labels: Sequence[str] = (), topic_labels: Sequence[str] = ()
) -> Labelled:
    """Our own events: what is trained on, or the part kept for testing."""
    return read_labels(EVENTS, sentiment_labels, topic_labels, name=EVENTS_NAME, part=part)


def read_texts(path: Path) -> Labelled:
    """Texts without labels, from the column `text`; raises `DataError`."""
    texts = tuple(_text(row, f"{path}: {where}") for where, row in _rows(path))
    return unlabelled(path.stem, texts)


def read_column(path: Path, column: str, *, part: str = "") -> list[str]:
    """What a column holds in each row that `read_labels` reads, empty where there is nothing; raises `DataError`."""
    return [str(row.get(column) or "") for _, row in _rows(path) if not part or row.get("part") == part]


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """("row 3" or "line 3", {column: value}) a row."""
    kind = path.suffix.lower()
    if kind == ".csv":
        yield from csv_rows(path, ("text",))
    elif kind == ".parquet":
        yield from _parquet_rows(path)
    elif kind in (".jsonl", ".ndjson"):
        for number, line in enumerate(read_text(path, "utf-8-sig").split("\n"), 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as exc:
                    raise DataError(f"{path}: line {number}: not JSON: {exc}") from exc
                if not isinstance(row, dict):
                    raise DataError(f"{path}: line {number}: not a JSON object")
                yield f"line {number}", row
    else:
        raise DataError(f"{path}: must end in .csv, .jsonl, .ndjson or .parquet")


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as exc:
        raise DataError(f"{path}: cannot be read: {exc}") from exc
    if "text" not in table.column_names:
        raise DataError(f"{path}: column 'text' is missing; it has {', '.join(table.column_names) or 'no columns'}")
    for number, row in enumerate(table.to_pylist(), 1):
        yield f"row {number}", row


def _text(row: dict[str, Any], where: str) -> str:
    text = row.get("text")
    if not isinstance(text, str) or not clean(text):
        raise DataError(f"{where}, column 'text': {str(text)[:80]!r} is no text")
    return clean(text)


def _target(value: object, labels: Sequence[str], where: str) -> int:
    if value in (None, ""):
        return UNLABELLED
    if str(value) not in labels:
        raise DataError(f"{where}: {str(value)[:80]!r} is none of {', '.join(labels)}")
    return labels.index(str(value))


def _weight(value: object, where: str) -> float:
    if value in (None, ""):
        return 1.0
    try:
        weight = float(str(value))
    except ValueError:
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise DataError(f"{where}: {str(value)[:80]!r} is no number of at least 0")
    return weight
