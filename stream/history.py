"""A file of items as a backtest needs it: read and cleaned once, in the order seen, with the scores that were paid for.

All is kept in one SQLite file: it sorts what does not fit into memory, and a run that was killed goes on. Items are
those of one file with one choice of columns, and are read again when either changes; scores are kept by text, model and
its configuration. One run at a time has the file: what another made of other items would be taken for its own.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from prometheus_client import CollectorRegistry

from alerts.settings import WindowsSettings
from alerts.spelling import near
from ingest.document import Document, decode, encode
from ingest.metrics import IngestMetrics
from ingest.settings import ReplayColumns, ReplaySettings
from ingest.sources import SourceGoneError
from ingest.sources.replay import ReplaySource
from model.later import LaterScorer
from model.scorer import Scores
from stream.batch import Scoring
from stream.kept_alerts import TABLE, KeptAlerts
from stream.kept_windows import TABLES, KeptWindows, made_of
from stream.settings import StreamSettings

_VERSION = 1
_SHOWN_ROWS = 2_000
_MAX_LINE_BYTES = 1_000_000
_LOOKED_AT = 100
_SCORED_TOGETHER = 256  # a killed run loses no more
_USUAL: Mapping[str, str] = {
    "time": "published_at time timestamp datetime date created_at created_at_utc published pubdate",
    "title": "title headline",
    "text": "text body content summary description tweet",
    "publisher": "publisher source user_id author user domain",
    "id": "id tweet_id guid uuid",
    "url": "url link",
    "ticker": "ticker tickers symbol symbols company companies stock",
}
_TABLES = f"""{TABLES}{TABLE}
CREATE TABLE IF NOT EXISTS input (version INTEGER, file TEXT, columns TEXT, rows INTEGER);
CREATE TABLE IF NOT EXISTS items (seen_us INTEGER, row INTEGER, document BLOB,
                                  PRIMARY KEY (seen_us, row)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS bad (row INTEGER PRIMARY KEY, reason TEXT);
CREATE TABLE IF NOT EXISTS scores (model TEXT, text BLOB, probabilities BLOB, PRIMARY KEY (model, text)) WITHOUT ROWID;
"""


class HistoryError(Exception):
    """The file, or what is kept of it, cannot be used; the message says why and what to do."""


class Input(msgspec.Struct, frozen=True):
    """What a file held; `bad` are rows that gave no item."""

    rows: int
    items: int
    bad: int


class History:
    """The items of one file and the scores of their texts, in the SQLite file `path`."""

    def __init__(self, path: Path) -> None:
        """Open it, or begin it.

        Raises:
            HistoryError: it cannot be used, or another run has it open.
        """
        self._path = path
        with self._translated():
            # The message path scores in a thread; no two calls are under way at once.
            self._base = sqlite3.connect(path, timeout=1, check_same_thread=False, isolation_level=None)
            try:
                # Exclusive before anything is read: SQLite then locks the file until it is closed, or its process ends.
                self._base.executescript(f"PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; {_TABLES}")
                self._base.execute("PRAGMA synchronous = NORMAL")
            except sqlite3.Error:
                self._base.close()
                raise

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    def read(
        self, settings: ReplaySettings, *, future_s: float = 3_600.0, on_rows: Callable[[int], None] = lambda rows: None
    ) -> Input:
        """Take in `settings.file`, unless that has been done; `on_rows` is told how many rows were read, now and then.

        Raises:
            HistoryError: the file cannot be read to its end, lacks columns, or no row gives an item.
        """
        file = settings.file
        if file is None:
            raise HistoryError("no file was named")
        with self._translated():
            try:
                with file.open("rb") as source:
                    digest = hashlib.file_digest(source, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
            except OSError as exc:
                raise HistoryError(f"{file} cannot be read: {exc}") from exc
            key = (_VERSION, digest, settings.model_dump_json(exclude={"file", "speed"}))
            kept = self._base.execute("SELECT version, file, columns FROM input").fetchone()
            if kept != key:
                self._base.execute("BEGIN IMMEDIATE")
                try:
                    self._take_in(settings, file, key, datetime.now(UTC) + timedelta(seconds=future_s), on_rows)
                except BaseException:
                    self._base.execute("ROLLBACK")
                    raise
                self._base.execute("COMMIT")
            (rows,) = self._base.execute("SELECT rows FROM input").fetchone()
            (items,) = self._base.execute("SELECT count(*) FROM items").fetchone()
            (bad,) = self._base.execute("SELECT count(*) FROM bad").fetchone()
        if not items:
            reasons = "; ".join(f"row {row}: {reason}" for row, reason in self.bad_rows(3))
            raise HistoryError(f"{file} holds no item: " + (reasons or "it has no rows"))
        return Input(rows=rows, items=items, bad=bad)

    def bad_rows(self, most: int = -1) -> list[tuple[int, str]]:
        """Return the numbers (from 1, the header not counted) of the rows that gave no item, and why."""
        with self._translated():
            return self._base.execute("SELECT row, reason FROM bad ORDER BY row LIMIT ?", (most,)).fetchall()

    def documents(self, together: int) -> Iterator[list[Document]]:
        """Yield all items in the order seen, those seen at once in the order of the file, so many at a time."""
        last = (-(2**62), 0)
        while True:
            with self._translated():
                found = self._base.execute(
                    "SELECT seen_us, row, document FROM items WHERE (seen_us, row) > (?, ?) ORDER BY 1, 2 LIMIT ?",
                    (*last, together),
                ).fetchall()
            if not found:
                return
            last = found[-1][:2]
            yield [decode(document) for _, _, document in found]

    def scorer(self, scorer: Scoring, on_texts: Callable[[int], None] = lambda texts: None) -> KeptScorer:
        """Return `scorer` with a memory; `on_texts` is told of how many more texts the scores are known."""
        return KeptScorer(scorer, self._base, on_texts)

    def windows(
        self, scorer: Scoring, partitions: int, windows: WindowsSettings, stream: StreamSettings
    ) -> KeptWindows:
        """Return what was kept of the windows of these items with the scores of `scorer`, or room for it."""
        with self._translated():
            items = str(self._base.execute("SELECT version, file, columns FROM input").fetchone())
        scores = repr((scorer.fingerprint, scorer.sentiment_labels, scorer.topic_labels))  # settings name labels, too
        return KeptWindows(self._base, made_of(items, scores, partitions, windows, stream), self._translated)

    def alerts(self) -> KeptAlerts:
        """Return the alerts that were kept of these items, or room for them."""
        return KeptAlerts(self._base, self._translated)

    def _take_in(
        self,
        settings: ReplaySettings,
        file: Path,
        key: tuple[int, str, str],
        latest: datetime,
        on_rows: Callable[[int], None],
    ) -> None:
        for table in ("input", "items", "bad", "windows", "alerts"):
            self._base.execute(f"DELETE FROM {table}")  # noqa: S608 - names from the line above
        number = 0
        try:
            for number, found in ReplaySource(settings, file, IngestMetrics(CollectorRegistry())).read():
                reason = "" if isinstance(found, Document) else str(found)
                if isinstance(found, Document) and found.seen_at > latest:
                    reason = f"its time {found.seen_at.isoformat()} lies in the future"
                if reason or not isinstance(found, Document):
                    self._base.execute("INSERT INTO bad VALUES (?, ?)", (number, reason[:500]))
                else:
                    seen_us = (found.seen_at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
                    self._base.execute("INSERT INTO items VALUES (?, ?, ?)", (seen_us, number, encode(found)))
                if number % _SHOWN_ROWS == 0:
                    on_rows(number)
        except SourceGoneError as exc:
            raise HistoryError(str(exc)) from exc
        self._base.execute("INSERT INTO input VALUES (?, ?, ?, ?)", (*key, number))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            if getattr(exc, "sqlite_errorname", "").startswith("SQLITE_BUSY"):
                raise HistoryError(f"another backtest is at work in {self._path.parent}: give another --out") from exc
            raise HistoryError(f"{self._path}: {exc}; if the disk has room, delete it") from exc


class KeptScorer:
    """A scorer that asks the real one only for texts that it has not scored yet. One call at a time."""

    def __init__(self, scorer: Scoring, base: sqlite3.Connection, on_texts: Callable[[int], None]) -> None:
        self.version, self.fingerprint, self.device = scorer.version, scorer.fingerprint, scorer.device
        self.sentiment_labels = scorer.sentiment_labels
        self.topic_labels = scorer.topic_labels
        self.asked = 0
        """Texts that the real scorer was asked for."""
        self._scorer = scorer
        self._base = base
        self._on_texts = on_texts

    def make_ready(self) -> None:
        """Load the real scorer, where it waits with that.

        Raises:
            ModelError: it cannot be loaded.
        """
        if isinstance(self._scorer, LaterScorer):
            self._scorer.load()

    def score(self, texts: Sequence[str]) -> Scores:
        """Return the probabilities of each text, to the bit those that the real scorer gave first."""
        parts = []
        for start in range(0, len(texts), _SCORED_TOGETHER):
            part = texts[start : start + _SCORED_TOGETHER]
            parts.append(self._score(part))
            self._on_texts(len(part))
        rows = np.concatenate(parts)
        return Scores(rows[:, : len(self.sentiment_labels)], rows[:, len(self.sentiment_labels) :])

    def _score(self, texts: Sequence[str]) -> Any:
        width = len(self.sentiment_labels) + len(self.topic_labels)
        keys = [hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest() for text in texts]
        marks = ",".join("?" * len(keys))
        query = f"SELECT text, probabilities FROM scores WHERE model = ? AND text IN ({marks})"  # noqa: S608 - only "?"
        known = {
            key: np.frombuffer(raw, np.float32)
            for key, raw in self._base.execute(query, (self.fingerprint, *keys))
            if len(raw) == 4 * width
        }
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if missing:
            scores = self._scorer.score(list(missing.values()))
            self.asked += len(missing)
            fresh = np.hstack([scores.sentiment, scores.topic]).astype(np.float32)
            known |= dict(zip(missing, fresh, strict=True))
            rows = [
                (self.fingerprint, key, row.tobytes())
                for key, row in zip(missing, fresh, strict=True)
                if np.isfinite(row).all()
            ]
            self._base.execute("BEGIN")
            self._base.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?)", rows)
            self._base.execute("COMMIT")
        return np.stack([known[key] for key in keys])


def columns_of(file: Path, given: Mapping[str, str | None]) -> ReplayColumns:
    """Return which column holds what: those given, then the first of the file's by one of the usual names.

    Raises:
        HistoryError: the file has not a column that was given, or none for the time or the words.
    """
    names = _column_names(file)
    shown = ", ".join(name if name.isprintable() else ascii(name) for name in names)[:500]
    if not shown:
        raise HistoryError(f"{file} is empty: a CSV needs a header, a line of column names")
    folded = {name.strip().casefold(): name for name in reversed(names)}
    chosen = {"seen": "", "language": ""}
    for field in (*_USUAL, "seen"):
        name = given.get(field)
        if name and name not in names:
            raise HistoryError(f"{file} has no column {name!r}{near(name, names)}; it has {shown}")
        usual = (folded[each] for each in _USUAL.get(field, "").split() if each in folded)
        chosen[field] = name or next(usual, "")
    if not chosen["time"] or not (chosen["text"] or chosen["title"]):
        raise HistoryError(
            f"{file} has the columns {shown}: say which hold the time and the text (--time COLUMN, --text COLUMN)"
        )
    return ReplayColumns(**chosen)


def _column_names(file: Path) -> list[str]:
    """Return the names in a CSV header or a Parquet schema, or the keys of the first objects of JSONL."""
    name = file.name.lower()
    bare = name.removesuffix(".gz")
    try:
        if bare.endswith((".parquet", ".pq")):
            import pyarrow as pa
            import pyarrow.parquet as pq

            try:
                return list(pq.read_schema(file).names)
            except pa.ArrowException as exc:
                raise OSError(str(exc)) from exc
        with gzip.open(file) if name.endswith(".gz") else file.open("rb") as source:
            if bare.endswith(".csv"):
                head = source.readline(_MAX_LINE_BYTES).decode("utf-8-sig", "replace")
                return next(csv.reader(io.StringIO(head, newline="")), [])
            keys: dict[str, None] = {}
            for line in islice(iter(partial(source.readline, _MAX_LINE_BYTES), b""), _LOOKED_AT):
                with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # reading will count it
                    keys |= dict.fromkeys(msgspec.json.decode(line, type=dict[str, Any]))
    except (OSError, EOFError, zlib.error, csv.Error) as exc:
        raise HistoryError(f"{file} cannot be read: {exc}") from exc
    if keys:
        return list(keys)
    raise HistoryError(f"{file} holds no JSON object: give .csv, .jsonl or .parquet, with .gz or without")
