"""`Scored`: a document with what the model says of it; the records of topic `scored`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import numpy as np

from alerts.series import SeriesError, series_of
from alerts.windows import NEGATIVE, WindowItem
from ingest.document import Document, Time
from model.errors import ModelError
from model.scorer import Scores

SCHEMA_VERSION = 1


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """One scored item. Readers drop repeats by `document.id`: delivery to `scored` is at least once.

    `partition` and `offset` are the document's in topic `documents`; `scored` has the same partition.
    Probabilities are rounded to 4 decimals.
    """

    document: Document
    partition: int
    offset: int
    sentiment: str
    sentiment_probabilities: dict[str, float]
    topic: str
    topic_probabilities: dict[str, float]
    model: str
    scored_at: Time
    schema: Annotated[int, msgspec.Meta(ge=1, le=SCHEMA_VERSION)] = SCHEMA_VERSION


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Scored)
encode = _encoder.encode


def decode(record: bytes) -> Scored:
    """Return the item in a record of `scored`; raises `msgspec.DecodeError` when it is not one."""
    try:
        return _decoder.decode(record)
    except (UnicodeDecodeError, RecursionError) as exc:
        raise msgspec.DecodeError(str(exc)) from exc


def check_labels(sentiment_labels: Sequence[str], topic_labels: Sequence[str]) -> None:
    """Do nothing when the windows can count what a model with these labels says.

    Raises:
        ModelError: no sentiment is called negative, there are no topics, or one cannot name a series.
    """
    if NEGATIVE not in sentiment_labels:
        raise ModelError(
            f"the model's sentiments are {', '.join(sentiment_labels) or 'none'}: without one called {NEGATIVE} no "
            "alert could ever fire; name those of model.sentiment_model by model.sentiment_names, or train on labels "
            "so called"
        )
    if not topic_labels:
        raise ModelError("the model knows no topics: train it on labels with topics too")
    for topic in topic_labels:
        try:
            series_of(topic, ())
        except SeriesError as exc:
            raise ModelError(f"the model's {exc}: rename it and train again") from exc


def text_of(document: Document) -> str:
    """Return what the model reads of a document: its title, then its text."""
    return f"{document.title}. {document.text}" if document.text else document.title


def join(
    documents: Sequence[tuple[int, int, Document]],
    scores: Scores,
    sentiment_labels: Sequence[str],
    topic_labels: Sequence[str],
    model: str,
) -> list[Scored]:
    """Return the scored items of `(partition, offset, document)` and their `(n, labels)` probabilities."""
    now = datetime.now(UTC)
    sentiment = np.round(scores.sentiment.astype(np.float64), 4).tolist()
    topic = np.round(scores.topic.astype(np.float64), 4).tolist()
    best_sentiment = scores.sentiment.argmax(axis=1).tolist()
    best_topic = scores.topic.argmax(axis=1).tolist()
    return [
        Scored(
            document=document,
            partition=partition,
            offset=offset,
            sentiment=sentiment_labels[best_sentiment[i]],
            sentiment_probabilities=dict(zip(sentiment_labels, sentiment[i], strict=True)),
            topic=topic_labels[best_topic[i]],
            topic_probabilities=dict(zip(topic_labels, topic[i], strict=True)),
            model=model,
            scored_at=now,
        )
        for i, (partition, offset, document) in enumerate(documents)
    ]


def window_item(scored: Scored) -> WindowItem:
    """Return what the windows need of a scored item."""
    document = scored.document
    return WindowItem(
        offset=scored.offset,
        id=document.id,
        story=document.story,
        published_at=document.published_at.timestamp(),
        seen_at=document.seen_at.timestamp(),
        sentiment=scored.sentiment,
        negative=scored.sentiment_probabilities.get(NEGATIVE, 0.0),
        topic=scored.topic,
        companies=document.companies,
        publisher=document.publisher,
        source=document.source,
        title=document.title,
        url=document.url,
    )
