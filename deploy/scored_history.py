"""What was scored in a stretch of time, read from Kafka beside the stream and without a consumer group."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import msgspec
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from deploy.kafka_client import client_options
from deploy.settings import KafkaSettings
from model.stretch import Row
from stream import scored

_SILENCE_S = 30.0


class HistoryError(RuntimeError):
    """The records cannot be read; the message says why."""


def scored_rows(bootstrap: str, settings: KafkaSettings, since: datetime, until: datetime) -> Iterator[Row | None]:
    """The items scored from `since` to before `until`, `None` for each record that cannot be read.

    Times are those of Kafka's records. Repeats, which delivery at least once allows, come as they are.

    Raises:
        HistoryError: Kafka cannot be reached, or is silent for half a minute.
        SettingsError: a certificate cannot be used.
    """
    options = client_options(settings)
    try:
        consumer = KafkaConsumer(
            bootstrap_servers=bootstrap.split(","),
            enable_auto_commit=False,
            group_id=None,
            auto_offset_reset="earliest",
            **options,
        )
    except (KafkaError, OSError) as exc:
        raise HistoryError(f"Kafka at {bootstrap} cannot be reached: {exc!r}") from exc
    try:
        yield from _rows(consumer, settings.scored_topic, since, until)
    except KafkaError as exc:
        raise HistoryError(f"{settings.scored_topic} cannot be read from Kafka at {bootstrap}: {exc!r}") from exc
    finally:
        consumer.close()


def _rows(
    consumer: Any, topic: str, since: datetime, until: datetime, clock: Callable[[], float] = time.monotonic
) -> Iterator[Row | None]:
    places = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
    if not places:
        raise HistoryError(f"Kafka has no topic {topic}: has `newsquake stream` ever run here?")
    consumer.assign(places)
    ends = consumer.end_offsets(places)
    start, stop = (
        consumer.offsets_for_times({place: int(at.timestamp() * 1000) for place in places}) for at in (since, until)
    )
    waiting = {}
    for place in places:
        first = start[place].offset if start[place] else ends[place]
        last = min(stop[place].offset, ends[place]) if stop[place] else ends[place]
        consumer.seek(place, first)
        if first < last:
            waiting[place] = last
        else:
            consumer.pause(place)
    moved_at = clock()
    while waiting:
        for place, records in consumer.poll(timeout_ms=1_000).items():
            moved_at = clock()
            for record in records:
                if place in waiting and record.offset < waiting[place]:
                    yield _row(record.value)
        for place in [place for place, last in waiting.items() if consumer.position(place) >= last]:
            del waiting[place]
            consumer.pause(place)
        if clock() - moved_at > _SILENCE_S:
            raise HistoryError(
                f"{topic}: Kafka has sent nothing for {_SILENCE_S:.0f} s; {len(waiting)} partitions wait"
            )


def _row(record: bytes | None) -> Row | None:
    try:
        item = scored.decode(record or b"")
    except msgspec.DecodeError:
        return None
    text = scored.text_of(item.document)
    return Row(item.document.story, text, item.sentiment_probabilities, item.topic_probabilities, item.model)
