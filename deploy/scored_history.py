"""What was scored in a stretch of time, read from Kafka beside the stream."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import msgspec

from deploy.settings import KafkaSettings
from deploy.topic_history import records
from model.stretch import Row
from stream import scored


def scored_rows(bootstrap: str, settings: KafkaSettings, since: datetime, until: datetime) -> Iterator[Row | None]:
    """The items scored from `since` to before `until`, `None` for each record that cannot be read.

    Repeats, which delivery at least once allows, come as they are.

    Raises:
        HistoryError: Kafka cannot be reached, or is silent for half a minute.
        SettingsError: a certificate cannot be used.
    """
    return map(_row, records(bootstrap, settings, settings.scored_topic, since, until))


def _row(record: bytes | None) -> Row | None:
    try:
        item = scored.decode(record or b"")
    except msgspec.DecodeError:
        return None
    text = scored.text_of(item.document)
    return Row(item.document.story, text, item.sentiment_probabilities, item.topic_probabilities, item.model)
