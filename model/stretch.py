"""A stretch of scored items: what `model.drift` compares.

| file | a row is |
| --- | --- |
| `.jsonl`, `.ndjson` | a record of topic `scored`, a line that `newsquake score` printed, or an object with `text` |
| `.csv` | a row with a column `text` |
| `.parquet` | a row with columns named as the keys of the JSON objects |

Rows without probabilities are scored by the present model.
"""

from __future__ import annotations

import csv
import hashlib
import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.errors import DataError
from model.text import clean

if TYPE_CHECKING:
    from model.scorer import Scorer

_SUM_TOLERANCE = 0.02  # probabilities are rounded where they are written


class Row(NamedTuple):
    """One item. Rows with the same `key` are one story and count once."""

    key: str
    text: str | None
    sentiment: Mapping[str, float] | None
    topic: Mapping[str, float] | None
    model: str


class Sample(NamedTuple):
    """A random choice of the stories of a stretch."""

    rows: tuple[Row, ...]
    seen: int  # rows, copies included
    unreadable: int


@dataclass(frozen=True)
class Stretch:
    """n items with calibrated probabilities.

    Attributes:
        name: Where they come from, for people.
        texts: n clean texts; empty when some row had none.
        sentiment: (n, sentiment labels).
        topic: (n, topic labels).
        sentiment_labels: Names of the columns.
        topic_labels: Names of the columns.
        models: Versions that scored them.
        seen: Rows read, copies of a story included.
        unreadable: Rows that could not be read.
    """

    name: str
    texts: tuple[str, ...]
    sentiment: NDArray[np.float64]
    topic: NDArray[np.float64]
    sentiment_labels: tuple[str, ...]
    topic_labels: tuple[str, ...]
    models: tuple[str, ...]
    seen: int
    unreadable: int = 0

    def __len__(self) -> int:
        return len(self.topic)


def choose(rows: Iterable[Row | None], size: int) -> Sample:
    """At most `size` stories, all equally likely, the same choice each time; `None` is a row that could not be read.

    Those with the smallest hashes are kept (bottom-k sampling, Cohen and Kaplan 2007), so that memory is bounded.
    """
    heap: list[int] = []  # negative hashes: the largest hash is on top
    kept: dict[int, Row] = {}
    seen = unreadable = 0
    for row in rows:
        if row is None:
            unreadable += 1
            continue
        seen += 1
        place = int.from_bytes(hashlib.blake2b(row.key.encode("utf-8", "replace"), digest_size=8).digest())
        if place in kept or (len(heap) >= size and place > -heap[0]):
            continue
        kept[place] = row
        heapq.heappush(heap, -place)
        if len(heap) > size:
            del kept[-heapq.heappop(heap)]
    return Sample(tuple(kept[place] for place in sorted(kept)), seen, unreadable)


def stretch(name: str, sample: Sample, scorer: Callable[[], Scorer], *, rescore: bool = False) -> Stretch:
    """The stretch of a sample's rows; `scorer` is called when rows have no probabilities, or all are to be scored anew.

    Raises:
        DataError: there are no rows, rows cannot be scored since they have no text, or they have different labels.
    """
    rows = sample.rows
    if not rows:
        raise DataError(f"{name}: no items" + (f", {sample.unreadable} could not be read" * bool(sample.unreadable)))
    texts = tuple(clean(row.text) for row in rows if row.text is not None)
    if len(texts) < len(rows):
        texts = ()
    if rescore or any(row.sentiment is None or row.topic is None for row in rows):
        if not texts:
            raise DataError(f"{name}: items without text cannot be scored; give items with a text or probabilities")
        model = scorer()
        scores = model.score(texts)
        labels = model.sentiment_labels, model.topic_labels
        sentiment, topic = scores.sentiment.astype(np.float64), scores.topic.astype(np.float64)
        models: tuple[str, ...] = (model.version,)
    else:
        labels = tuple(rows[0].sentiment or ()), tuple(rows[0].topic or ())
        sentiment = _table(name, [row.sentiment or {} for row in rows], labels[0])
        topic = _table(name, [row.topic or {} for row in rows], labels[1])
        models = tuple(sorted({row.model for row in rows}))
    return Stretch(name, texts, sentiment, topic, *labels, models, sample.seen, sample.unreadable)


def row(record: object, number: int = 0) -> Row | None:
    """The row of a record of `scored`, of a line of `newsquake score`, or of an object with `text`; `None` if none.

    `number` tells rows without text apart.
    """
    if not isinstance(record, dict):
        return None
    document = record.get("document")
    text, story = record.get("text"), None
    if isinstance(document, dict):  # as `stream.scored.text_of` puts them together
        title, body, story = document.get("title"), document.get("text"), document.get("story")
        text = f"{title}. {body}" if body else title
    sentiment, topic = (_probabilities(record.get(f"{head}_probabilities")) for head in ("sentiment", "topic"))
    if not isinstance(text, str):
        text = None
    if text is None and (sentiment is None or topic is None):
        return None
    key = story if isinstance(story, str) else f"{number}" if text is None else clean(text).lower()
    return Row(key, text, sentiment, topic, str(record.get("model", "")))


def file_rows(path: Path) -> Iterator[Row | None]:
    """The rows of a file, `None` for each that cannot be read.

    Raises:
        DataError: the file cannot be read at all.
    """
    readers = {".jsonl": _jsonl, ".ndjson": _jsonl, ".csv": _csv, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: must end in {', '.join(readers)}")
    try:
        for number, record in enumerate(reader(path)):
            yield row(record, number)
    except (OSError, csv.Error) as exc:
        raise DataError(f"{path}: cannot be read: {exc}") from exc


def keep(sample: Sample, path: Path) -> None:
    """Write the sample as JSON Lines that `file_rows` reads, whole or not at all; raises `DataError`."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            for kept in sample.rows:
                record = {
                    "text": kept.text,
                    "sentiment_probabilities": kept.sentiment,
                    "topic_probabilities": kept.topic,
                    "model": kept.model,
                }
                file.write(msgspec.json.encode({key: value for key, value in record.items() if value}) + b"\n")
        partial.replace(path)
    except OSError as exc:
        partial.unlink(missing_ok=True)
        raise DataError(f"{path} cannot be written: {exc}") from exc


def _jsonl(path: Path) -> Iterator[object]:
    with path.open("rb") as file:
        for line in file:
            if line.strip():
                try:
                    yield msgspec.json.decode(line.removeprefix(b"\xef\xbb\xbf"))
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    yield None


def _csv(path: Path) -> Iterator[object]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = csv.DictReader(file)
        if "text" not in (rows.fieldnames or ()):
            raise DataError(f"{path}: column 'text' is missing; it has {', '.join(rows.fieldnames or ['none'])[:500]}")
        yield from rows


def _parquet(path: Path) -> Iterator[object]:
    import pyarrow
    import pyarrow.parquet

    try:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(1_024):
            yield from batch.to_pylist()
    except pyarrow.ArrowException as exc:
        raise DataError(f"{path}: cannot be read: {exc}") from exc


def _probabilities(value: object) -> dict[str, float] | None:
    if not isinstance(value, dict) or not value:
        return None
    found: dict[str, Any] = value
    if not all(isinstance(p, int | float) and 0 <= p <= 1 for p in found.values()):
        return None
    return found if abs(sum(found.values()) - 1) <= _SUM_TOLERANCE else None


def _table(name: str, rows: Sequence[Mapping[str, float]], labels: Sequence[str]) -> NDArray[np.float64]:
    if any(found.keys() != set(labels) for found in rows):
        raise DataError(f"{name}: its items were scored with different labels; score them anew with --rescore")
    table: NDArray[np.float64] = np.array([[found[label] for label in labels] for found in rows], np.float64)
    table /= table.sum(1, keepdims=True)
    return table
