"""RSS, Atom and RDF feeds, polled politely."""

from __future__ import annotations

import email.utils
import hashlib
import logging
import random
import threading
import time
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

import msgspec
from pydantic import ValidationError

from ingest.backoff import Backoff
from ingest.document import Document
from ingest.feed import FeedError, read_feed
from ingest.fetch import Fetcher, FetchError, Response, shown
from ingest.item import ItemError, compose
from ingest.metrics import IngestMetrics
from ingest.settings import Feed, IngestSettings, RssSettings
from ingest.sources import Fetched, Source, SourceGoneError

logger = logging.getLogger(__name__)

DEFAULT_FEEDS = Path(__file__).parent.parent / "feeds.toml"

# A first poll cannot tell how old an item without a date is. Taken as this old, it is scored and kept, and counts in no
# window, as with every old item of a first poll; later polls can tell: it was not there the last time.
UNKNOWN_AGE = timedelta(days=1)
_REMEMBERED = 2_000
_MAX_RETRY_AFTER_S = 86_400.0
_TRACKING = ("utm_", "mc_", "fbclid", "gclid", "cmpid", "ref_src", "ftag", "taid", "siteid")


class Position(msgspec.Struct, frozen=True):
    """Where a feed stands: its validators, and the ids of the entries seen, the latest last."""

    url: str = ""
    etag: str = ""
    modified: str = ""
    seen: tuple[str, ...] = ()


class HostGate:
    """At most one request at a time to a host, with a minimum gap between two."""

    def __init__(self, gap_s: float) -> None:
        self._gap_s = gap_s
        self._lock = threading.Lock()
        self._hosts: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._last: dict[str, float] = {}

    def get(self, fetcher: Fetcher, url: str, headers: dict[str, str], stop: threading.Event) -> Response | None:
        """Fetch when it is this request's turn; None when `stop` came first."""
        host = urlsplit(url).netloc.lower()
        with self._lock:
            turn = self._hosts[host]
        while not turn.acquire(timeout=1.0):
            if stop.is_set():
                return None
        try:
            if stop.wait(max(0.0, self._last.get(host, float("-inf")) + self._gap_s - time.monotonic())):
                return None
            try:
                return fetcher.get(url, headers)
            finally:
                self._last[host] = time.monotonic()
        finally:
            turn.release()


class RssSource:
    """One feed. Position: `Position`."""

    def __init__(
        self, feed: Feed, settings: RssSettings, fetcher: Fetcher, gate: HostGate, metrics: IngestMetrics
    ) -> None:
        self.name = f"rss:{feed.name}"
        self.trouble = ""
        self._feed = feed
        self._settings = settings
        self._fetcher = fetcher
        self._gate = gate
        self._metrics = metrics
        self._random = random.Random()  # noqa: S311  (jitter)

    def run(self, position: object | None, stop: threading.Event) -> Iterator[Fetched]:
        """Poll until `stop`; yield when there are new entries or new validators."""
        now = self._resume(position)
        backoff = Backoff(self._settings.poll_s, max(self._settings.max_backoff_s, self._settings.poll_s))
        while not stop.is_set():
            wait_s = self._settings.poll_s * self._random.uniform(0.9, 1.1)
            try:
                answer = self._gate.get(self._fetcher, self._feed.url, _conditions(now), stop)
                if answer is None:
                    return
                wait_s = max(wait_s, self._asked_to_wait_s(answer))
                fetched, outcome = self._read(answer, now)
            except FetchError as exc:
                wait_s = max(wait_s, backoff.next_s())
                self.trouble = str(exc)
                self._metrics.polls.labels(self.name, exc.outcome).inc()
                logger.warning("%s: %s; next try in %.0f s.", self.name, exc, wait_s)
            else:
                self.trouble = ""
                self._metrics.polls.labels(self.name, outcome).inc()
                self._metrics.last_success.labels(self.name).set_to_current_time()
                backoff.reset()
                if fetched is not None:
                    yield fetched
                    now = self._resume(fetched.position)
            stop.wait(wait_s)

    def _resume(self, position: object | None) -> Position | None:
        if position is None:
            return None
        try:
            stored = msgspec.convert(position, Position)
        except msgspec.ValidationError as exc:
            logger.error("%s: its stored position cannot be read (%s); it starts afresh.", self.name, exc)
            return None
        # Validators belong to an address. When that changes, what was seen still holds.
        same = stored.url == self._feed.url
        return Position(
            url=self._feed.url,
            etag=_validator(stored.etag, 1_000) if same else "",
            modified=_validator(stored.modified, 100) if same else "",
            seen=stored.seen,
        )

    def _asked_to_wait_s(self, answer: Response) -> float:
        """Return the seconds after which the server wants to be asked again (Retry-After of a 429 or 503)."""
        if answer.status not in {429, 503}:
            return 0.0
        value = answer.headers.get("retry-after", "").strip()
        if value.isascii() and value.isdigit():
            return min(float(value[:9]), _MAX_RETRY_AFTER_S)
        try:
            until = email.utils.parsedate_to_datetime(value).timestamp()
        except (ValueError, TypeError, OverflowError):
            return 0.0
        return min(max(0.0, until - time.time()), _MAX_RETRY_AFTER_S)

    def _read(self, answer: Response, now: Position | None) -> tuple[Fetched | None, str]:
        """Return the new documents with the next position, and the poll's outcome."""
        if answer.status == 304:
            return None, "not_modified"
        if answer.status == 410:
            self._metrics.polls.labels(self.name, "gone").inc()
            raise SourceGoneError(f"{shown(self._feed.url)} is gone for good (410); remove it from the list of feeds")
        if answer.status != 200:
            raise FetchError(
                "busy" if answer.status in {429, 503} else "refused",
                f"{shown(self._feed.url)} answered {answer.status}",
            )
        entries, broken = self._entries(answer)
        documents, seen = self._documents(entries, now, answer.url)
        after = Position(
            url=self._feed.url,
            etag=_validator(answer.headers.get("etag", ""), 1_000),
            modified=_validator(answer.headers.get("last-modified", ""), 100),
            seen=tuple(seen),
        )
        changed = documents or now is None or (after.etag, after.modified) != (now.etag, now.modified)
        return (Fetched(documents, msgspec.to_builtins(after)) if changed else None), "broken" if broken else "ok"

    def _entries(self, answer: Response) -> tuple[list[Any], bool]:
        try:
            entries, broken = read_feed(
                answer.body,
                content_type=answer.headers.get("content-type", ""),
                language=answer.headers.get("content-language", ""),
                url=answer.url,
            )
        except FeedError as exc:
            raise FetchError("error", f"{shown(self._feed.url)} {exc}") from exc
        except Exception as exc:  # feedparser lets many kinds through on hostile input
            raise FetchError("error", f"{shown(self._feed.url)} cannot be parsed: {exc!r}") from exc
        if (left_out := len(entries) - self._settings.max_entries) > 0:
            self._metrics.dropped.labels(self.name, "too_many").inc(left_out)
            logger.warning("%s: %d of %d entries left out (max_entries).", self.name, left_out, len(entries))
        return entries[: self._settings.max_entries], broken

    def _documents(self, entries: list[Any], now: Position | None, base: str) -> tuple[list[Document], list[str]]:
        """Return what is new, oldest first, and the ids to remember: those of earlier polls, then all of this one's."""
        known = set(now.seen) if now is not None else set()
        seen_at = datetime.now(UTC)
        documents: list[Document] = []
        current: dict[str, None] = {}
        for entry in reversed(entries):  # feeds list the latest first
            try:
                document = self._document(entry, base, seen_at, first_poll=now is None)
            except ItemError as exc:
                self._metrics.dropped.labels(self.name, exc.reason).inc()
                logger.warning("%s: an entry is left out: %s.", self.name, exc)
                continue
            short = document.id[:16]
            if short in known or short in current:
                self._metrics.repeats.labels(self.name).inc()
            else:
                documents.append(document)
            current[short] = None
        earlier = [short for short in (now.seen if now is not None else ()) if short not in current]
        return documents, [*earlier, *current][-max(_REMEMBERED, len(current)) :]

    def _document(self, entry: Any, base: str, seen_at: datetime, *, first_poll: bool) -> Document:
        link = _link(entry, base)
        title, text = _text(entry, "title"), _body(entry)
        published_at = _time(entry) or (seen_at - UNKNOWN_AGE if first_poll else seen_at)
        return compose(
            source=self.name,
            publisher=self._feed.publisher,
            key=_text(entry, "id") or canonical_url(link) or hashlib.blake2b(f"{title}\n{text}".encode()).hexdigest(),
            title=title,
            text=text,
            url=link,
            language=_language(entry),
            published_at=published_at,
            seen_at=seen_at,
        )


def canonical_url(url: str) -> str:
    """Return `url` without fragment and tracking parameters, host in lower case; unchanged if it cannot be taken apart.

    >>> canonical_url("https://Example.com/a?utm_source=rss&id=7#top")
    'https://example.com/a?id=7'
    """
    try:
        parts = urlsplit(url)
        query = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if not pair[0].startswith(_TRACKING)]
    except ValueError:
        return url
    return urlunsplit((parts.scheme.lower(), parts.netloc.lower(), parts.path, urlencode(query), ""))


def load_feeds(path: Path) -> tuple[Feed, ...]:
    """Return the feeds of a TOML file.

    Raises:
        ValueError: the file is missing, not TOML, or says something wrong; the message names the file.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("feeds", [])
        return RssSettings(feeds=tuple(Feed.model_validate(table) for table in tables)).feeds
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, TypeError, ValidationError) as exc:
        raise ValueError(f"the list of feeds {path} cannot be used: {exc}") from exc


def build(settings: IngestSettings, metrics: IngestMetrics) -> list[Source]:
    """Return one source a feed."""
    rss = settings.rss
    if not rss.enabled:
        return []
    fetcher = Fetcher(
        user_agent=settings.user_agent,
        timeout_s=rss.fetch_timeout_s,
        max_bytes=rss.max_bytes,
        max_redirects=rss.max_redirects,
    )
    gate = HostGate(rss.host_gap_s)
    feeds = rss.feeds or load_feeds(rss.feeds_file or DEFAULT_FEEDS)
    return [RssSource(feed, rss, fetcher, gate, metrics) for feed in feeds]


def _validator(value: str, most: int) -> str:
    """Return what can be sent back as a header; cut short, or not in plain ASCII, a validator is of no use."""
    return value if len(value) <= most and value.isascii() and value.isprintable() else ""


def _conditions(now: Position | None) -> dict[str, str]:
    conditions = {}
    if now is not None and now.etag:
        conditions["If-None-Match"] = now.etag
    if now is not None and now.modified:
        conditions["If-Modified-Since"] = now.modified
    return conditions


def _text(entry: Any, field: str) -> str:
    value = entry.get(field)
    return value if isinstance(value, str) else ""


def _link(entry: Any, base: str) -> str:
    try:
        return urljoin(base, link) if (link := _text(entry, "link")) else ""
    except ValueError:  # the host holds what NFKC makes a "#", and its like
        return ""


def _body(entry: Any) -> str:
    """Return the summary, or else the content: summaries are what the desks wrote to be read alone."""
    if summary := _text(entry, "summary"):
        return summary
    content = entry.get("content") or [{}]
    return str(content[0].get("value", ""))


def _language(entry: Any) -> str:
    detail = entry.get("title_detail") or {}
    return str(detail.get("language") or "")


def _time(entry: Any) -> datetime | None:
    parsed = entry.get("published_parsed") or entry.get("updated_parsed")
    try:
        year, month, day, hour, minute, second = parsed[:6] if parsed else (1, 1, 1, 0, 0, 0)
        found = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)
    except (ValueError, TypeError, OverflowError):
        return None
    # What claims to be older than the web has a broken date, not a long history.
    return found if found.year >= 1990 else None
