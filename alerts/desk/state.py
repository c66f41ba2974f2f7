"""What the desk works with, put together once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry

from alerts.actions import Actions
from alerts.audit import Audit
from alerts.desk.auth import Limiter, Sessions, Tokens
from alerts.desk.feedback_topic import FeedbackTopic, Kafka
from alerts.desk.held import BySeries, Tables
from alerts.desk.live import Hub
from alerts.desk.metrics import DeskMetrics
from alerts.desk.prices import Prices
from alerts.desk.processes import Processes
from alerts.desk.ranking import Ranking
from alerts.desk.settings import DeskSettings
from alerts.desk.stream import Stream
from alerts.feedback import Feedback
from alerts.listing import Listing
from alerts.now import Now
from alerts.outbox import Outbox
from alerts.silences import Silences
from alerts.store import LOG, AlertStore

if TYPE_CHECKING:
    from redis import Redis


class Desk:
    """The parts that pages and API share.

    `labels` are the sentiments and topics that people may give a headline; `links` maps the names of processes to
    where they serve their metrics; `kafka` is where what people say goes.
    """

    def __init__(
        self,
        settings: DeskSettings,
        redis: Redis,
        registry: CollectorRegistry,
        *,
        stream: Stream,
        processes: Mapping[str, str],
        sentiments: tuple[str, ...] = (),
        topics: tuple[str, ...] = (),
        kafka: Kafka = Kafka(),  # noqa: B008 - it is frozen
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings, self.redis = settings, redis
        self.sentiments, self.topics = sentiments, topics
        self.metrics = DeskMetrics(registry)
        self.store, self.actions = AlertStore(redis), Actions(redis, clock)
        self.listing = Listing(redis, self.store)
        self.silences, self.outbox, self.now = Silences(redis), Outbox(redis), Now(redis)
        self.tables, self.by_series = Tables(self.now), BySeries(redis)
        self.tokens = Tokens(redis, clock)
        self.sessions = Sessions(redis, self.tokens, settings.session_h * 3600, clock)
        self.limiter = Limiter(redis, settings.logins_a_minute, clock)
        self.audit = Audit(redis)
        self.feedback, self.feedback_topic = Feedback(redis), FeedbackTopic(redis, kafka, self.metrics)
        self.ranking = Ranking(redis, on=settings.ranking, after=settings.ranking_after)
        self.prices = Prices(settings.prices)
        self.stream = stream
        self.hub = Hub(redis, self.now, stream, self.metrics, settings.viewers, settings.viewers_each)
        self.processes = Processes(processes)

    def standing(self) -> tuple[bytes | None, str]:
        """Return what changes whenever the table of now or the life of an alert does: the minute, the log's end."""
        last: Any = self.redis.xrevrange(LOG, count=1)
        return self.now.mark(), last[0][0].decode() if last else ""
