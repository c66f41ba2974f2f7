"""`Document`: one news item or post, as every other room sees it."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated

import msgspec

SCHEMA_VERSION = 1

Time = Annotated[datetime, msgspec.Meta(tz=True)]
Symbol = Annotated[str, msgspec.Meta(pattern=r"^[A-Z0-9][A-Z0-9.\-]{0,15}\Z")]


class DocumentError(ValueError):
    """A record is not a `Document`; the message says what is wrong and where."""


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """One item of text. Text fields are clean (`ingest.text.clean`): no mark-up, NFC, no control characters.

    `id` is the same for the same item whichever source or replay brings it: see `document_id`.
    `story` is the same for near-identical titles (`ingest.story`), and is the Kafka key, so that all copies of a story
    meet in one partition.
    """

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    story: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    source: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    publisher: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    title: Annotated[str, msgspec.Meta(min_length=1, max_length=2_000)]
    published_at: Time
    seen_at: Time
    text: Annotated[str, msgspec.Meta(max_length=20_000)] = ""
    url: Annotated[str, msgspec.Meta(max_length=2_048)] = ""
    language: Annotated[str, msgspec.Meta(max_length=35)] = ""
    companies: Annotated[tuple[Symbol, ...], msgspec.Meta(max_length=32)] = ()
    schema: Annotated[int, msgspec.Meta(ge=1, le=SCHEMA_VERSION)] = SCHEMA_VERSION


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Document)


def encode(document: Document) -> bytes:
    """Return the document as JSON bytes."""
    return _encoder.encode(document)


def decode(record: bytes | None) -> Document:
    """Return the document in a Kafka record's value.

    Raises:
        DocumentError: the bytes are not one valid document (JSON, types, lengths, time zones).
    """
    if record is None:
        raise DocumentError("the record has no value")
    try:
        return _decoder.decode(record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:  # ValidationError is a DecodeError
        raise DocumentError(str(exc)) from exc


def document_id(publisher: str, key: str) -> str:
    """Return the id of the item that `publisher` calls `key` (its URL, guid or number): 32 hex digits."""
    return hashlib.blake2b(f"{publisher}\n{key}".encode("utf-8", "replace"), digest_size=16).hexdigest()
