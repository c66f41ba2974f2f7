"""What a Kafka topic holds of a stretch of time, read to its end and without a consumer group."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from deploy.kafka_client import client_options
from deploy.settings import KafkaSettings

_SILENCE_S = 30.0
_BEGINNING = datetime.fromtimestamp(0, UTC)


class HistoryError(RuntimeError):
    """The records cannot be read; the message says why."""


def records(
    bootstrap: str, settings: KafkaSettings, topic: str, since: datetime = _BEGINNING, until: datetime | None = None
) -> Iterator[bytes | None]:
    """The values of the records from `since` to before `until`, by default all; of one partition in their order.

    Times are those of Kafka's records.

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
        yield from _read(consumer, topic, since, until or datetime.now(UTC) + timedelta(days=1))
    except KafkaError as exc:
        raise HistoryError(f"{topic} cannot be read from Kafka at {bootstrap}: {exc!r}") from exc
    finally:
        consumer.close()


def _read(
    consumer: Any, topic: str, since: datetime, until: datetime, clock: Callable[[], float] = time.monotonic
) -> Iterator[bytes | None]:
    places = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
    if not places:
        raise HistoryError(f"Kafka has no topic {topic}: has newsquake ever run here?")
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
        for place, found in consumer.poll(timeout_ms=1_000).items():
            moved_at = clock()
            for record in found:
                if place in waiting and record.offset < waiting[place]:
                    yield record.value
        for place in [place for place, last in waiting.items() if consumer.position(place) >= last]:
            del waiting[place]
            consumer.pause(place)
        if clock() - moved_at > _SILENCE_S:
            raise HistoryError(
                f"{topic}: Kafka has sent nothing for {_SILENCE_S:.0f} s; {len(waiting)} partitions wait"
            )
