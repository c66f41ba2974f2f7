"""History from a file, with its own times, at any speed."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import logging
import re
import threading
import time
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec

from ingest.document import Document
from ingest.item import ItemError, compose
from ingest.metrics import IngestMetrics
from ingest.settings import IngestSettings, ReplaySettings
from ingest.sources import Fetched, Source, SourceGoneError, SourceSettingsError

logger = logging.getLogger(__name__)

_BATCH_ROWS = 2_000
_MAX_ROW_BYTES = 1_000_000
_LOGGED_BAD_ROWS = 20
_HEAD_BYTES = 65_536


class Position(msgspec.Struct, frozen=True):
    """Rows read of the file with that fingerprint."""

    file: str
    rows: int


class RowError(ValueError):
    """A row cannot be read; reading goes on with the next."""


Row = Mapping[str, object]
_Rows = Generator[Row | RowError, None, None]


class ReplaySource:
    """The rows of one file, once. Position: `Position`."""

    def __init__(
        self,
        settings: ReplaySettings,
        file: Path,
        metrics: IngestMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = settings.name
        self.trouble = ""
        self._settings = settings
        self._columns = settings.columns
        self._file = file
        self._metrics = metrics
        self._clock = clock
        self._bad_rows = 0

    def run(self, position: object | None, stop: threading.Event) -> Iterator[Fetched]:
        """Yield the rows after `position`, paced so that the gap between two items is its event gap over `speed`."""
        try:
            fingerprint = _fingerprint(self._file)
            done = self._resume(position, fingerprint)
            logger.info("%s: replaying %s from row %d.", self.name, self._file, done + 1)
            rows = 0
            for fetched in self._batches(done, fingerprint, stop):
                rows += len(fetched.documents)
                yield fetched
            if not rows and done and not stop.is_set():
                logger.info(
                    "%s: %s was replayed to its end before; to replay it again, give ingest.replay.name another name.",
                    self.name,
                    self._file,
                )
        except FileNotFoundError as exc:
            raise SourceSettingsError(f"there is no file {self._file} (setting ingest.replay.file)") from exc
        except (OSError, EOFError, zlib.error) as exc:
            raise SourceGoneError(f"{self._file} cannot be read to its end: {exc}") from exc
        if self._bad_rows:
            logger.warning("%s: %d bad rows were left out of %s.", self.name, self._bad_rows, self._file)

    def read(self) -> Iterator[tuple[int, Document | RowError | ItemError]]:
        """Yield each row's number, from 1, with its document or why it has none; without pause, log or metric.

        Raises:
            SourceGoneError: the file cannot be read to its end, or has not the columns.
        """
        try:
            with closing(self._open(0)) as rows:
                for number, row in enumerate(rows, 1):
                    try:
                        yield number, row if isinstance(row, RowError) else self._compose(row)
                    except (RowError, ItemError) as exc:
                        yield number, exc
        except FileNotFoundError as exc:
            raise SourceSettingsError(f"there is no file {self._file} (setting ingest.replay.file)") from exc
        except (OSError, EOFError, zlib.error) as exc:
            raise SourceGoneError(f"{self._file} cannot be read to its end: {exc}") from exc

    def _batches(self, done: int, fingerprint: str, stop: threading.Event) -> Iterator[Fetched]:
        pace = _Pace(self._settings.speed, self._clock)
        documents: list[Document] = []
        number = before = done

        def batch() -> Fetched:
            return Fetched(documents, msgspec.to_builtins(Position(fingerprint, number)))

        with closing(self._open(done)) as rows:
            for row in rows:
                document = self._document(row, number + 1)
                if document is not None and (wait_s := pace.wait_s(document.seen_at)) > 0:
                    if documents:
                        yield batch()
                        documents, before = [], number
                        wait_s = pace.wait_s(document.seen_at)
                    if stop.wait(max(0.0, wait_s)):
                        break
                number += 1
                if document is not None:
                    documents.append(document)
                if number - before >= _BATCH_ROWS:
                    yield batch()
                    documents, before = [], number
                    if stop.is_set():
                        return
        if number > before:
            yield batch()

    def _resume(self, position: object | None, fingerprint: str) -> int:
        if position is None:
            return 0
        try:
            stored = msgspec.convert(position, Position)
        except msgspec.ValidationError as exc:
            logger.error("%s: its stored position cannot be read (%s); it starts at the first row.", self.name, exc)
            return 0
        if stored.file != fingerprint:
            logger.info("%s: %s is another file than the last time; it starts at the first row.", self.name, self._file)
            return 0
        return max(0, stored.rows)

    def _open(self, skip: int) -> _Rows:
        name = self._file.name.lower()
        kind = self._settings.format
        if kind == "auto":
            bare = name.removesuffix(".gz")
            kind = "parquet" if bare.endswith((".parquet", ".pq")) else "csv" if bare.endswith(".csv") else "jsonl"
        if kind == "parquet":
            wanted = {column for column in self._columns.model_dump().values() if column}
            return _parquet(self._file, skip, wanted, self._check)
        opened = gzip.open(self._file) if name.endswith(".gz") else self._file.open("rb")  # noqa: SIM115  (closed by the reader)
        source = cast("BinaryIO", opened)
        return _after(_csv(source, self._check) if kind == "csv" else _jsonl(source), skip)

    def _check(self, names: list[str]) -> None:
        """Raise `SourceSettingsError` when the columns cannot give documents: better than refusing every row."""
        columns = self._columns
        if columns.time not in names or not {columns.title, columns.text} & set(names):
            raise SourceSettingsError(
                f"{self._file} has the columns {', '.join(names)[:500]}; needed are {columns.time!r} for the time and "
                f"{columns.title!r} or {columns.text!r} for the words (settings ingest.replay.columns)"
            )

    def _document(self, row: Row | RowError, number: int) -> Document | None:
        """Return the row's document, or None after counting and logging why there is none."""
        try:
            if isinstance(row, RowError):
                raise row
            return self._compose(row)
        except (RowError, ItemError) as exc:
            self._bad_rows += 1
            self._metrics.dropped.labels(self.name, exc.reason if isinstance(exc, ItemError) else "bad_row").inc()
            if self._bad_rows <= _LOGGED_BAD_ROWS:
                last = "; further ones are only counted" if self._bad_rows == _LOGGED_BAD_ROWS else ""
                logger.warning("%s: row %d of %s is left out: %s%s.", self.name, number, self._file, exc, last)
            return None

    def _compose(self, row: Row) -> Document:
        columns = self._columns
        published_at = parse_time(row.get(columns.time))
        seen = row.get(columns.seen) if columns.seen else None
        seen_at = published_at if seen is None or seen == "" else parse_time(seen)
        title, text = _string(row, columns.title), _string(row, columns.text)
        publisher = _string(row, columns.publisher) or self._settings.publisher
        url = _string(row, columns.url)
        key = (
            _string(row, columns.id) or url or hashlib.blake2b(f"{published_at}\n{title}\n{text}".encode()).hexdigest()
        )
        tickers = _string(row, columns.ticker)
        return compose(
            source=self.name,
            publisher=publisher,
            key=key,
            title=title or text,
            text=text if title else "",
            url=url,
            language=_string(row, columns.language),
            symbols=re.split(r"[\s,;]+", tickers) if tickers else (),
            published_at=published_at,
            seen_at=seen_at,
        )


class _Pace:
    """When an item is due: counted from the first one, so that small delays do not add up."""

    def __init__(self, speed: float, clock: Callable[[], float]) -> None:
        self._speed = speed
        self._clock = clock
        self._start: tuple[float, datetime] | None = None

    def wait_s(self, time: datetime) -> float:
        """Return the seconds until the item of event time `time` is due; negative when it is overdue."""
        if self._speed == 0:
            return 0.0
        if self._start is None:
            self._start = (self._clock(), time)
        started, first = self._start
        return started + (time - first).total_seconds() / self._speed - self._clock()


def parse_time(value: object) -> datetime:
    """Return the time in `value`: ISO 8601 (no zone: UTC), Unix seconds, milliseconds or microseconds, or a datetime.

    >>> parse_time("2023-03-10T12:00:00Z") == parse_time(1678449600) == parse_time("1678449600000")
    True

    Raises:
        RowError: it is none of these, or out of range.
    """
    if isinstance(value, str):
        text = value.strip()
        try:
            return _aware(datetime.fromisoformat(text))
        except ValueError:
            try:
                value = float(text)
            except ValueError as exc:
                raise RowError(f"{text[:60]!r} is not a time") from exc
    if isinstance(value, datetime):
        return _aware(value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise RowError("there is no time" if value is None else f"a {type(value).__name__} is not a time")
    try:
        size = abs(value)
        return datetime.fromtimestamp(value / (1 if size < 1e11 else 1e3 if size < 1e14 else 1e6), UTC)
    except (ValueError, OverflowError, OSError) as exc:
        raise RowError(f"the time {value!r} is out of range") from exc


def build(settings: IngestSettings, metrics: IngestMetrics) -> list[Source]:
    """Return the source, if a file is set."""
    file = settings.replay.file
    return [ReplaySource(settings.replay, file, metrics)] if file is not None else []


def _aware(value: datetime) -> datetime:
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


def _string(row: Row, column: str) -> str:
    value = row.get(column) if column else None
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return ""


def _fingerprint(file: Path) -> str:
    """Return what tells this file from another: its length and a hash of its beginning and end."""
    size = file.stat().st_size
    with file.open("rb") as source:
        head = source.read(_HEAD_BYTES)
        source.seek(max(0, size - _HEAD_BYTES))
        tail = source.read(_HEAD_BYTES)
    return f"{size}-{hashlib.blake2b(head + tail, digest_size=16).hexdigest()}"


def _after(rows: _Rows, skip: int) -> _Rows:
    with closing(rows):
        for _ in range(skip):
            if next(rows, None) is None:
                return
        yield from rows


def _lines(source: BinaryIO) -> Iterator[bytes | None]:
    """Yield the lines of a file without their ends; None for one that is too long."""
    with source:
        while line := source.readline(_MAX_ROW_BYTES):
            if len(line) < _MAX_ROW_BYTES or line.endswith(b"\n"):
                yield line.rstrip(b"\r\n")
                continue
            while line and not line.endswith(b"\n"):
                line = source.readline(_MAX_ROW_BYTES)
            yield None


def _jsonl(source: BinaryIO) -> _Rows:
    for line in _lines(source):
        if line is None:
            yield RowError(f"the line is longer than {_MAX_ROW_BYTES} bytes")
        elif line.strip():
            try:
                yield msgspec.json.decode(line, type=dict[str, Any])
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
                yield RowError(str(exc))


def _csv(source: BinaryIO, check: Callable[[list[str]], None]) -> _Rows:
    with io.TextIOWrapper(source, encoding="utf-8-sig", errors="replace", newline="") as text:
        reader = csv.reader(_bounded(text))
        try:
            header = next(reader, [])
        except csv.Error as exc:
            raise OSError(f"its header cannot be read: {exc}") from exc
        check(header)
        while True:
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as exc:
                yield RowError(str(exc))
                continue
            if len(fields) == len(header):
                yield dict(zip(header, fields, strict=True))
            elif fields:
                yield RowError(f"{len(fields)} fields where the header has {len(header)}")


def _bounded(text: io.TextIOWrapper) -> Iterable[str]:
    """Yield lines, those longer than `_MAX_ROW_BYTES` characters in pieces, which the reader then refuses."""
    while line := text.readline(_MAX_ROW_BYTES):
        yield line


def _parquet(file: Path, skip: int, wanted: set[str], check: Callable[[list[str]], None]) -> _Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            check(table.schema_arrow.names)
            columns = [column for column in table.schema_arrow.names if column in wanted]
            for batch in table.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
                if skip >= batch.num_rows:
                    skip -= batch.num_rows
                    continue
                yield from batch.slice(skip).to_pylist()
                skip = 0
    except pa.ArrowException as exc:
        raise OSError(str(exc)) from exc
