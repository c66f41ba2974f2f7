"""Bluesky posts by Jetstream, the JSON form of the network's event stream.

Format: https://github.com/bluesky-social/jetstream. A cursor is a `time_us`, the server's Unix time in microseconds.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import urlencode

import msgspec
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.sync.client import ClientConnection, connect

from ingest.backoff import Backoff
from ingest.document import Document
from ingest.fetch import shown
from ingest.item import SHORT_TITLE_CHARS, ItemError, compose
from ingest.metrics import IngestMetrics
from ingest.settings import BlueskySettings, IngestSettings
from ingest.sources import Fetched, Source
from ingest.symbols import companies

logger = logging.getLogger(__name__)

COLLECTION = "app.bsky.feed.post"

# What was taken lately is remembered, so that a post that comes again is left out; Kafka's readers drop the rest by id.
_REMEMBERED = 20_000
_BATCH_DOCUMENTS = 200
_BATCH_S = 1.0
_SAVE_S = 5.0
_MAX_AHEAD_S = 3_600.0


class _Record(msgspec.Struct, frozen=True):
    text: str = ""
    createdAt: str = ""  # noqa: N815  (the protocol's name)
    langs: tuple[str, ...] | None = None


class _Commit(msgspec.Struct, frozen=True):
    operation: str
    collection: str
    rkey: str
    record: msgspec.Raw = msgspec.Raw(b"null")


class _Event(msgspec.Struct, frozen=True):
    did: str
    time_us: int
    kind: str
    commit: _Commit | None = None


class Position(msgspec.Struct, frozen=True):
    """Largest `time_us` seen, and the ids taken within the overlap before it with their `time_us`."""

    cursor: int
    recent: dict[str, int] = {}


class BlueskySource:
    """Posts with one of some words, or a cashtag. Position: `Position`."""

    def __init__(self, settings: BlueskySettings, user_agent: str, metrics: IngestMetrics) -> None:
        self.name = "bluesky"
        self.trouble = ""
        self._settings = settings
        self._user_agent = user_agent
        self._metrics = metrics
        words = "|".join(re.escape(word) for word in settings.words)
        self._words = re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE) if words else None
        self._events = msgspec.json.Decoder(_Event)
        self._records = msgspec.json.Decoder(_Record)
        self._overlap_us = int(settings.overlap_s * 1_000_000)
        self._cursor = 0
        self._taken: OrderedDict[str, int] = OrderedDict()

    def run(self, position: object | None, stop: threading.Event) -> Iterator[Fetched]:
        """Read until `stop`, reconnecting from shortly before the last event whenever the connection ends."""
        self._resume(position)
        backoff = Backoff(1.0, self._settings.max_backoff_s)
        while not stop.is_set():
            reached = self._cursor
            try:
                with connect(
                    self._address(),
                    user_agent_header=self._user_agent,
                    max_size=self._settings.max_message_bytes,
                    open_timeout=20.0,
                    close_timeout=1.0,
                ) as connection:
                    logger.info("%s: connected to %s.", self.name, shown(self._settings.url))
                    self.trouble = ""
                    yield from self._read(connection, stop)
                reason, why = "idle", f"nothing came for {self._settings.idle_timeout_s:g} s"
            except ConnectionClosed as exc:
                too_large = exc.sent is not None and exc.sent.code == 1009
                reason, why = ("too_large" if too_large else "closed"), str(exc)
            except (OSError, TimeoutError, InvalidHandshake, InvalidURI, ValueError) as exc:
                reason, why = "error", repr(exc)
            if stop.is_set():
                return
            if self._cursor > reached:
                backoff.reset()
            self.trouble = why
            wait_s = backoff.next_s()
            self._metrics.reconnects.labels(self.name, reason).inc()
            logger.warning("%s: the connection ended (%s); reconnecting in %.1f s.", self.name, why, wait_s)
            stop.wait(wait_s)

    def _resume(self, position: object | None) -> None:
        self._cursor, self._taken = 0, OrderedDict()
        if position is None:
            return
        try:
            stored = msgspec.convert(position, Position)
        except msgspec.ValidationError as exc:
            logger.error("%s: its stored position cannot be read (%s); it starts with what comes now.", self.name, exc)
            return
        self._cursor, self._taken = stored.cursor, OrderedDict(stored.recent)

    def _address(self) -> str:
        query: dict[str, str | int] = {
            "wantedCollections": COLLECTION,
            "maxMessageSizeBytes": self._settings.max_message_bytes,
        }
        if self._cursor:
            query["cursor"] = max(self._cursor - self._overlap_us, 1)
        return f"{self._settings.url}{'&' if '?' in self._settings.url else '?'}{urlencode(query)}"

    def _read(self, connection: ClientConnection, stop: threading.Event) -> Iterator[Fetched]:
        """Yield batches until the connection is idle for too long, closes (raises), or `stop` is set."""
        waiting: list[Document] = []
        last_message = last_yield = time.monotonic()
        try:
            while not stop.is_set() and time.monotonic() - last_message < self._settings.idle_timeout_s:
                with suppress(TimeoutError):
                    message = connection.recv(timeout=0.5)
                    last_message = time.monotonic()
                    if (document := self._take(message)) is not None:
                        waiting.append(document)
                since_s = time.monotonic() - last_yield
                if len(waiting) >= _BATCH_DOCUMENTS or since_s >= (_BATCH_S if waiting else _SAVE_S):
                    yield self._batch(waiting)
                    waiting, last_yield = [], time.monotonic()
        except ConnectionClosed:
            if waiting:  # noted as taken already, so they would not be taken again
                yield self._batch(waiting)
            raise
        if waiting:
            yield self._batch(waiting)

    def _batch(self, documents: list[Document]) -> Fetched:
        self._metrics.last_success.labels(self.name).set_to_current_time()
        since = self._cursor - self._overlap_us
        recent = {key: time_us for key, time_us in self._taken.items() if time_us >= since}
        return Fetched(documents, msgspec.to_builtins(Position(self._cursor, recent)))

    def _take(self, message: str | bytes) -> Document | None:
        """Return the document of a message if it is a new post that is wanted."""
        try:
            event = self._events.decode(message)
            commit = event.commit
            if not 0 < event.time_us < (time.time() + _MAX_AHEAD_S) * 1_000_000:
                raise ValueError(f"time_us {event.time_us} is no time up to now")  # would spoil the cursor
            self._cursor = max(self._cursor, event.time_us)
            if commit is None or commit.operation != "create" or commit.collection != COLLECTION:
                return None
            record = self._records.decode(commit.record)
            if not self._wanted(record):
                return None
            document = self._document(event, commit, record)
        except ItemError as exc:
            self._metrics.dropped.labels(self.name, exc.reason).inc()
            logger.debug("%s: a post is left out: %s.", self.name, exc)
            return None
        except (ValueError, RecursionError) as exc:  # msgspec's errors are ValueErrors
            self._metrics.dropped.labels(self.name, "bad_message").inc()
            logger.warning("%s: a message cannot be read and is left out: %s.", self.name, exc)
            return None
        if document.id in self._taken:
            self._metrics.repeats.labels(self.name).inc()
            return None
        self._taken[document.id] = event.time_us
        if len(self._taken) > _REMEMBERED:
            self._taken.popitem(last=False)
        return document

    def _wanted(self, record: _Record) -> bool:
        wanted = self._settings.languages
        if wanted and record.langs and not any(tag.split("-")[0].lower() in wanted for tag in record.langs):
            return False
        return bool((self._words and self._words.search(record.text)) or companies(record.text))

    def _document(self, event: _Event, commit: _Commit, record: _Record) -> Document:
        seen_at = datetime.now(UTC)
        try:
            published_at = datetime.fromisoformat(record.createdAt)
        except ValueError:
            published_at = datetime.fromtimestamp(event.time_us / 1_000_000, UTC)
        return compose(
            source=self.name,
            publisher=f"bsky:{event.did}",
            key=f"at://{event.did}/{COLLECTION}/{commit.rkey}",
            title=record.text[:SHORT_TITLE_CHARS],
            text=record.text if len(record.text) > SHORT_TITLE_CHARS else "",
            url=f"https://bsky.app/profile/{event.did}/post/{commit.rkey}",
            language=record.langs[0] if record.langs else "",
            published_at=published_at,
            seen_at=seen_at,
        )


def build(settings: IngestSettings, metrics: IngestMetrics) -> list[Source]:
    """Return the source, if it is switched on."""
    return [BlueskySource(settings.bluesky, settings.user_agent, metrics)] if settings.bluesky.enabled else []
