"""From what a source says of one item to a valid `Document`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

from ingest.document import Document, document_id
from ingest.story import story_key
from ingest.symbols import companies
from ingest.text import clean, clean_url

MAX_TITLE_CHARS = 2_000
MAX_TEXT_CHARS = 20_000
SHORT_TITLE_CHARS = 300

_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{1,8}){0,3}")


class ItemError(ValueError):
    """An item cannot become a document; `reason` is one bounded word for metrics, the message says more."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def compose(
    *,
    source: str,
    publisher: str,
    key: str,
    title: str,
    published_at: datetime,
    seen_at: datetime,
    text: str = "",
    url: str = "",
    language: str = "",
    symbols: Iterable[str] = (),
) -> Document:
    """Return the document of one item; every limit of `Document` holds, so it can be read by `decode`.

    Args:
        source: name of the source, at most 128 characters.
        publisher: who says it.
        key: what the publisher calls the item: its guid, URL or number.
        title: title in any state; without one, the start of the text is the title.
        published_at: the source's claim; what lies after `seen_at` becomes `seen_at`. A time without zone is UTC.
        seen_at: when we first had the item.
        text: body in any state; left empty when the title already says it all.
        url: where to read it; anything but http(s) is left out.
        language: BCP 47 tag, or anything (then left out).
        symbols: companies known from elsewhere than the text.

    Raises:
        ItemError: neither title nor text has any words (`empty`), no key or publisher (`no_id`), or a time that UTC
            cannot express (`bad_time`).
    """
    heading, body = clean(title, MAX_TITLE_CHARS), clean(text, MAX_TEXT_CHARS) if text else ""
    if not heading:
        heading = clean(body, SHORT_TITLE_CHARS)
    if body == heading:
        body = ""
    if not heading:
        raise ItemError("empty", "neither title nor text has any words")
    publisher = clean(publisher, 256)
    if not key or not publisher:
        raise ItemError("no_id", "the item has no id or no publisher")
    seen_at = _utc(seen_at)
    return Document(
        id=document_id(publisher, key),
        story=story_key(heading, publisher),
        source=source[:128],
        publisher=publisher,
        title=heading,
        text=body,
        url=clean_url(url) if url else "",
        language=language if language and _LANGUAGE.fullmatch(language) else "",
        companies=companies(f"{heading}\n{body}" if body else heading, symbols),
        published_at=min(_utc(published_at), seen_at),
        seen_at=seen_at,
    )


def _utc(time: datetime) -> datetime:
    if time.tzinfo is None:
        return time.replace(tzinfo=UTC)
    try:
        return time.astimezone(UTC)
    except OverflowError as exc:  # year 1 or 9999, and a zone
        raise ItemError("bad_time", f"the time {time!r} is out of range") from exc
