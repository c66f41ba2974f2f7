"""Puts alerts and silences back into Redis from Kafka's topic `alerts`, when Redis has lost them."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from alerts.life import AlertView
from alerts.matchers import MatcherError
from alerts.publish import SILENCE_PREFIX, KafkaPlace
from alerts.records import UNREADABLE
from alerts.silences import Silence, Silences
from alerts.store import KEEP_S, LOG, STATE, AlertStore

if TYPE_CHECKING:
    from redis import Redis

log = logging.getLogger(__name__)

_SILENT_S = 30.0


class RebuildError(Exception):
    """The topic could not be read to its end; nothing was put back. The message says why."""


class Rebuilt(NamedTuple):
    """How many alerts and silences were put back, and how many records were no such thing."""

    alerts: int
    silences: int
    unreadable: int


def lost_all(redis: Redis) -> bool:
    """Say whether Redis knows of no alert and no detector: it is new, or has lost what it had."""
    found: Any = redis.exists(LOG, STATE)
    return not found


def rebuild(redis: Redis, place: KafkaPlace) -> Rebuilt:
    """Put back what the topic holds of the last 90 days and Redis has not, or has less of. Nobody is told of it.

    Raises:
        RebuildError: the topic could not be read.
        redis.RedisError: the server failed. Calling it again goes on from there.
    """
    records = last_values(place)
    store, silences = AlertStore(redis), Silences(redis)
    alerts = laid = unreadable = 0
    oldest_s = time.time() - KEEP_S
    for key, value in records.items():
        try:
            if key.startswith(SILENCE_PREFIX):
                silence = msgspec.json.decode(value, type=Silence)
                there = silences.get(silence.id)
                if (there is None or silence.follows(there)) and silence.ends_at.timestamp() > oldest_s:
                    silences.put(silence)
                    laid += 1
            else:
                view = msgspec.json.decode(value, type=AlertView)
                if view.transitions[-1].at.timestamp() > oldest_s or view.life.state != "resolved":
                    alerts += store.restore(view)
        except (*UNREADABLE, MatcherError, IndexError) as exc:
            unreadable += 1
            log.warning("record %.60r of topic %s cannot be read and is left out: %s", key, place.topic, exc)
    return Rebuilt(alerts, laid, unreadable)


def last_values(place: KafkaPlace) -> dict[str, bytes]:
    """Return the last value under each key of a topic, without those that were deleted.

    Raises:
        RebuildError: it could not be read.
    """
    try:
        return _read(place)
    except (KafkaError, OSError) as exc:
        raise RebuildError(f"topic {place.topic} on {place.bootstrap_servers}: {type(exc).__name__}: {exc}") from exc


def _read(place: KafkaPlace) -> dict[str, bytes]:
    consumer = KafkaConsumer(
        **{
            "client_id": "newsquake-alerts-rebuild",
            "bootstrap_timeout_ms": 10_000,
            "metrics_enabled": False,
            **place.options,
            "bootstrap_servers": place.bootstrap_servers.split(","),
            "group_id": None,
            "enable_auto_commit": False,
            "allow_auto_create_topics": False,
            "auto_offset_reset": "earliest",
        }
    )
    where = f"topic {place.topic} on {place.bootstrap_servers}"
    found: dict[str, bytes] = {}
    try:
        numbers = consumer.partitions_for_topic(place.topic)
        if not numbers:
            raise RebuildError(f"{where} is not there; `newsquake topics` makes it")
        partitions = [TopicPartition(place.topic, number) for number in numbers]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        heard = time.monotonic()
        while any(consumer.position(each) < ends[each] for each in partitions):
            batches = consumer.poll(timeout_ms=500)
            for record in (record for batch in batches.values() for record in batch):
                key = (record.key or b"").decode("utf-8", "replace")
                if record.value is None:
                    found.pop(key, None)
                else:
                    found[key] = record.value
            if batches:
                heard = time.monotonic()
            elif time.monotonic() - heard > _SILENT_S:
                raise RebuildError(f"{where} gave nothing for {_SILENT_S:.0f} s")
    finally:
        consumer.close()
    return found
