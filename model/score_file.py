"""`newsquake score`: texts from a file in, a line of JSON a text out, in the order given, in constant memory."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import PurePath
from typing import IO, Literal, NamedTuple

import msgspec

from model.errors import DataError
from model.scorer import Scorer

Format = Literal["lines", "csv", "jsonl"]

_CHUNK = 512  # texts held at a time
_MAX_LINE_BYTES = 2**20
_SUFFIXES: dict[str, Format] = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}


class Summary(NamedTuple):
    """What was written."""

    scored: int
    unreadable: int


class Unreadable(NamedTuple):
    """A record without a text to score."""

    reason: str


def format_of(name: str) -> Format:
    """The format that a file's name says; lines of text when it says none."""
    return _SUFFIXES.get(PurePath(name).suffix.lower(), "lines")


def score_stream(source: IO[bytes], out: IO[bytes], scorer: Scorer, kind: Format, column: str = "text") -> Summary:
    r"""Score each record of `source` and write `{"number": …, "text": …, "sentiment": …, …, "model": …}` to `out`.

    A record is a line (an empty one too), a row of CSV under a header, or a line with a JSON object; `column` names
    the CSV column or the object's key. `number` counts records from 1. A record that cannot be read gives
    `{"number": …, "error": …}` in its place. Invalid UTF-8 becomes U+FFFD.

    Raises `DataError` when CSV has no such column, `ModelError` as `Scorer.score` does.
    """
    readers = {"lines": lambda file, _: read_lines(file), "csv": _read_csv, "jsonl": _read_jsonl}
    records = readers[kind](source, column)
    scored = unreadable = 0
    while chunk := list(islice(records, _CHUNK)):
        texts = [record for record in chunk if isinstance(record, str)]
        answers = _answers(scorer, texts)
        for number, record in enumerate(chunk, scored + unreadable + 1):
            answer = {"error": record.reason} if isinstance(record, Unreadable) else {"text": record, **next(answers)}
            out.write(msgspec.json.encode({"number": number, **answer}) + b"\n")
        out.flush()
        scored += len(texts)
        unreadable += len(chunk) - len(texts)
    return Summary(scored, unreadable)


def _answers(scorer: Scorer, texts: list[str]) -> Iterator[dict[str, object]]:
    scores = scorer.score(texts)
    for sentiment, topic in zip(scores.sentiment.tolist(), scores.topic.tolist(), strict=True):
        yield {
            "sentiment": scorer.sentiment_labels[sentiment.index(max(sentiment))],
            "sentiment_probabilities": _by_label(scorer.sentiment_labels, sentiment),
            "topic": scorer.topic_labels[topic.index(max(topic))],
            "topic_probabilities": _by_label(scorer.topic_labels, topic),
            "model": scorer.version,
        }


def _by_label(labels: tuple[str, ...], probabilities: list[float]) -> dict[str, float]:
    return {label: round(p, 6) for label, p in zip(labels, probabilities, strict=True)}


def read_lines(source: IO[bytes]) -> Iterator[str]:
    """The lines of a file without their ends; of an overlong line only the beginning."""
    for line in _lines(source):
        yield line.rstrip("\r\n")


def _read_csv(source: IO[bytes], column: str) -> Iterator[str | Unreadable]:
    rows = csv.reader(_lines(source))
    try:
        header = next(rows, [])
    except csv.Error as exc:
        raise DataError(f"the CSV header cannot be read: {exc}") from exc
    if column not in header:
        raise DataError(f"the CSV has no column {column!r}; it has {', '.join(header)[:500] or 'no header'}")
    place = header.index(column)
    while True:
        try:
            row = next(rows, None)
        except csv.Error as exc:  # an overlong field, such as one after a stray quote; the reader goes on after it
            yield Unreadable(f"line {rows.line_num}: {exc}")
            continue
        if row is None:
            return
        if not row and len(header) == 1:
            yield ""
        elif len(row) > place:
            yield row[place]
        else:
            yield Unreadable(f"line {rows.line_num}: {len(row)} columns, {column!r} is number {place + 1}")


def _read_jsonl(source: IO[bytes], column: str) -> Iterator[str | Unreadable]:
    for number, line in enumerate(_lines(source), 1):
        try:
            record = msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError) as exc:
            yield Unreadable(f"line {number}: not JSON: {exc}")
            continue
        text = record.get(column) if isinstance(record, dict) else None
        yield text if isinstance(text, str) else Unreadable(f"line {number}: not an object with a string {column!r}")


def _lines(source: IO[bytes]) -> Iterator[str]:
    """Lines with their ends; of an overlong line only the beginning, since a score reads no further."""
    first = True
    while line := source.readline(_MAX_LINE_BYTES):
        rest = line
        while not rest.endswith(b"\n") and (rest := source.readline(_MAX_LINE_BYTES)):
            pass
        yield line.decode("utf-8-sig" if first else "utf-8", "replace")
        first = False
