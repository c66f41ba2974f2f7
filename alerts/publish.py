"""Follows the log and keeps Kafka's compacted topic `alerts` in step: all that is known of an alert in one record.

The key is the alert's id, the value an `AlertView` as JSON: the alert, its life, its transitions, of which 320 at most
are kept (`alerts.life.spare`), so that a record stays below the broker's 1 MB; one that is larger all the same is left
out, and no other waits for it. Silences are there too, under `silence:<id>`. At least once: the cursor
moves after all in-sync replicas have the records. Revisions that bring no transition are published with the next one.
What Redis has forgotten (alerts after 90 days, silences) is deleted there, at a start and once an hour, so that the
topic does not grow for ever; where nothing says what it has, it is read once. `alerts.rebuild` reads it all back.

Nothing is sent without the lead. Kafka knows no tokens: what a leader sends as it loses the lead may still come after
what the next one sends, until the alert changes again.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from kafka import KafkaProducer
from kafka.errors import KafkaError, MessageSizeTooLargeError
from redis.exceptions import RedisError

from alerts.cursors import number_of, read_cursor
from alerts.life import AlertView, spare
from alerts.metrics import AlertsMetrics
from alerts.producers import close_producer
from alerts.records import name_of
from alerts.silences import KEY as SILENCES
from alerts.store import KEEP_S, LOG, AlertStore, FencedError
from alerts.stored import PREFIX, keys_of, step_of

if TYPE_CHECKING:
    from redis import Redis

log = logging.getLogger(__name__)

CURSOR = f"{PREFIX}published"
"""The id of the last entry of the log whose alert is in Kafka as it was then, or later."""
SENT = f"{PREFIX}published:keys"
"""A sorted set: the keys that the topic has, by when they were last sent, Unix seconds."""
SILENCE_PREFIX = "silence:"
_SILENCE = SILENCE_PREFIX.encode()
_ENTRIES, _ALL = 500, 1_000_000
_FLUSH_S, _SWEEP_S = 30.0, 3_600.0


class KafkaPlace(NamedTuple):
    """Where the topic is: brokers, the options that all clients share, the topic's name."""

    bootstrap_servers: str
    options: Mapping[str, Any]
    topic: str


class Publisher:
    """Publishes what is new; one process at a time, the leader, whose `token` the cursor's writes carry."""

    def __init__(self, redis: Redis, place: KafkaPlace, metrics: AlertsMetrics, token: Callable[[], str] = str) -> None:
        self._redis = redis
        self._place = place
        self._metrics = metrics
        self._store = AlertStore(redis, token)
        self._producer: KafkaProducer | None = None
        self._silences: dict[bytes, bytes] = {}  # as they are in Kafka
        self._swept_s = -math.inf

    def run(self, stop: threading.Event, *, poll_s: float = 0.5) -> None:
        """Publish until `stop` is set or another process leads. Nothing else waits for it: Kafka may be away."""
        wait_s = poll_s
        while not stop.is_set():
            try:
                if self.step():
                    continue
                wait_s = poll_s
            except FencedError:
                break
            except (KafkaError, RedisError, OSError) as exc:
                wait_s = min(wait_s * 2, 30.0)
                self._metrics.publish_errors.inc()
                log.warning(
                    "alerts could not be published to %s (%s); next try in %.1f s", self._place.topic, exc, wait_s
                )
                self._close()
            except Exception:  # a thread that ends silently would leave the topic behind for ever
                wait_s = 30.0
                self._metrics.publish_errors.inc()
                self._metrics.unexpected_errors.labels(part="publishing").inc()
                log.exception("publishing alerts: unexpected failure; next try in 30 s")
                self._close()
            stop.wait(wait_s)
        self._close()

    def step(self) -> bool:
        """Publish what changed since the cursor; return whether more may wait.

        Raises:
            KafkaError: not everything was acknowledged; the next step begins at the same place.
            redis.RedisError: the server failed.
            FencedError: another process leads.
        """
        cursor = self._cursor()
        entries: Any = self._redis.xrange(LOG, min=f"({cursor}" if cursor else "-", count=_ENTRIES)
        silences: Any = self._redis.hgetall(SILENCES)
        sweeps = time.monotonic() - self._swept_s > _SWEEP_S
        records = (self._forgotten(silences) if sweeps else {}) | self._changed(silences)
        upto = b""
        if entries:
            views, upto = self._views(cursor, entries)
            records |= {view.alert.id.encode(): _encode(view) for view in views}
        if records:
            self._store.check_lead()  # who slept since they read would write what is old by now
            self._metrics.published.inc(self._send(records))
            self._note(records)
        self._silences = silences
        self._swept_s = time.monotonic() if sweeps else self._swept_s
        if entries:
            self._store.set(CURSOR, upto)
        return len(entries) == _ENTRIES

    def _cursor(self) -> str:
        """Return the last entry of which Kafka knows; of what is none the log's beginning, at which all is sent."""
        found = read_cursor(self._redis, CURSOR)
        if found.mended:
            self._metrics.unexpected_errors.labels(part="publishing").inc()
            self._store.set(CURSOR, "0-0")
            return "0-0"
        return found.entry

    def _views(self, cursor: str, entries: Any) -> tuple[list[AlertView], bytes]:
        """Return the alerts that the entries speak of, and the last of these.

        It is all alerts, and the log's last entry, where the log no longer holds what came after the cursor.
        """
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.xrange(LOG, count=1)
            pipe.xrevrange(LOG, count=1)
            first, last = pipe.execute()
        if not cursor or number_of(first[0][0].decode()) > number_of(cursor):
            return self._store.views(open=False, limit=_ALL), last[0][0]
        ids: dict[str, None] = {}
        for entry, fields in entries:
            if (step := step_of(entry.decode(), fields)) is not None:
                ids[step.alert] = None
        return [view for each in ids if (view := self._store.view(each)) is not None], entries[-1][0]

    def _changed(self, silences: Mapping[bytes, bytes]) -> dict[bytes, bytes | None]:
        changed: dict[bytes, bytes | None] = {
            _SILENCE + id_: value for id_, value in silences.items() if self._silences.get(id_) != value
        }
        return changed | dict.fromkeys((_SILENCE + id_ for id_ in self._silences.keys() - silences.keys()), None)

    def _forgotten(self, silences: Mapping[bytes, bytes]) -> dict[bytes, bytes | None]:
        """What the topic has and Redis no longer, to be deleted there."""
        if not self._redis.exists(SENT):
            self._seed()
        sent: Any = self._redis.zrange(SENT, 0, -1, withscores=True)
        oldest_s = time.time() - KEEP_S
        silenced = [key for key, _ in sent if key.startswith(_SILENCE)]
        old = [key for key, at_s in sent if at_s < oldest_s and not key.startswith(_SILENCE)]
        gone = [key for key in silenced if key.removeprefix(_SILENCE) not in silences]
        gone += [key for key in old if not self._redis.exists(keys_of(name_of(key))[0])]
        return dict.fromkeys(gone)

    def _seed(self) -> None:
        """Note what the topic has, as if it was sent now: of what versions before sent nothing is noted."""
        from alerts.rebuild import RebuildError, last_values  # it takes this module's names

        self._store.check_lead()
        try:
            self._note({key.encode(): value for key, value in last_values(self._place).items()})
        except RebuildError as exc:
            raise KafkaError(str(exc)) from exc

    def _note(self, records: Mapping[bytes, bytes | None]) -> None:
        """Note which keys the topic has."""
        now_s = time.time()
        with self._redis.pipeline(transaction=True) as pipe:
            for key, value in records.items():
                if value is None:
                    pipe.zrem(SENT, key)
                else:
                    pipe.zadd(SENT, {key: now_s})
            pipe.execute()

    def _send(self, records: Mapping[bytes, bytes | None]) -> int:
        """Return how many Kafka has: all but those that are too large for it."""
        if self._producer is None:
            self._producer = KafkaProducer(
                **{
                    "client_id": "newsquake-alerts",
                    "compression_type": "lz4",
                    "linger_ms": 10,
                    "max_block_ms": 10_000,
                    "bootstrap_timeout_ms": 10_000,
                    "delivery_timeout_ms": int(_FLUSH_S * 1_000),
                    "request_timeout_ms": 10_000,
                    "reconnect_backoff_max_ms": 2_000,
                    "metrics_enabled": False,
                    **self._place.options,
                    "bootstrap_servers": self._place.bootstrap_servers.split(","),
                    "acks": "all",
                    "enable_idempotence": True,
                    "allow_auto_create_topics": False,
                }
            )
        waiting: dict[bytes, Any] = {}
        done = 0
        for key, value in records.items():
            with self._unless_too_large(key):
                waiting[key] = self._producer.send(self._place.topic, key=key, value=value)
        self._producer.flush(timeout=_FLUSH_S)
        for key, future in waiting.items():
            with self._unless_too_large(key):  # the broker may take less than the client
                future.get(timeout=_FLUSH_S)
                done += 1
        return done

    @contextmanager
    def _unless_too_large(self, key: bytes) -> Iterator[None]:
        try:
            yield
        except MessageSizeTooLargeError as exc:
            self._metrics.publish_errors.inc()
            log.error("%s is too large for topic %s and is left out (%s)", name_of(key), self._place.topic, exc)

    def _close(self) -> None:
        producer, self._producer, self._silences = self._producer, None, {}
        close_producer(producer, self._place.topic)


def _encode(view: AlertView) -> bytes:
    if gone := {*spare(view.transitions)}:  # a version before kept more
        kept = tuple(step for number, step in enumerate(view.transitions) if number not in gone)
        view = msgspec.structs.replace(view, transitions=kept)
    return msgspec.json.encode(view)
