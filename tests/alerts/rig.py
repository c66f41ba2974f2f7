"""A sender with a clock that tests move, what it is given to send, and what a receiver took."""

from __future__ import annotations

from typing import Any

import msgspec
import redis
from prometheus_client import CollectorRegistry

from alerts.alert import Alert, Event, Message
from alerts.channels.table import channel_of
from alerts.delivery import Delivery, delivery_key, delivery_of, due_key
from alerts.message import decode_message
from alerts.metrics import AlertsMetrics
from alerts.notification import Notification, notification_id
from alerts.outbox import Outbox
from alerts.receivers import WebhookReceiver
from alerts.sender import Sender

NOW = 1_700_000_000.0


def deliveries(event: Event, alert: Alert, receivers: list[str], now_s: float) -> list[Delivery]:
    """Return the deliveries of a transition to these receivers; ids are the same whenever it is made again."""
    found = []
    for receiver in receivers:
        told = Notification(
            id=notification_id(alert.id, event, receiver),
            receiver=receiver,
            event=event,
            alerts=(alert,),
            at=alert.updated_at,
        )
        first = notification_id(alert.id, "alert.firing", receiver)
        found.append(delivery_of(told, now_s, after=[first] if event == "alert.resolved" else []))
    return found


def queue(store: redis.Redis, messages: list[Delivery], now_s: float) -> None:
    """Put deliveries into the outbox, as the dispatcher does."""
    for message in messages:
        if store.set(delivery_key(message.id), msgspec.json.encode(message), nx=True):
            store.zadd(due_key(message.receiver), {delivery_key(message.id): now_s})


class Rig:
    """A sender with a clock that tests move."""

    def __init__(
        self, store: redis.Redis, url: str, secret: str, allowed: tuple[str, ...] = ("127.0.0.0/8",), **more: Any
    ) -> None:
        given = {"name": "desk", "url": url, "secrets": [secret], "allow_networks": allowed, **more}
        self.settings = WebhookReceiver.model_validate(given)
        self.redis = store
        self.now = NOW
        self.registry = CollectorRegistry()
        metrics = AlertsMetrics(self.registry)
        self.outbox = Outbox(store, metrics)
        self.sender = Sender(channel_of(self.settings), self.outbox, metrics, lambda: self.now)

    def fire(self, alert: Alert) -> None:
        queue(self.redis, deliveries("alert.firing", alert, ["desk"], self.now), self.now)

    def resolve(self, alert: Alert) -> None:
        done = msgspec.structs.replace(alert, revision=alert.revision + 1, status="resolved")
        queue(self.redis, deliveries("alert.resolved", done, ["desk"], self.now), self.now)

    def count(self, outcome: str) -> float | None:
        return self.registry.get_sample_value(
            "newsquake_alerts_deliveries_total", {"receiver": self.settings.name, "outcome": outcome}
        )


def changes(alert: Alert, count: int) -> list[tuple[Event, Alert]]:
    """Alerts that fire and are resolved, in the order in which they were made."""
    made: list[tuple[Event, Alert]] = []
    for number in range(count):
        one = msgspec.structs.replace(alert, id=f"{number:032x}", name=f"N{number}")
        made.append(("alert.firing", one))
        if number % 2:
            made.append(("alert.resolved", msgspec.structs.replace(one, revision=2, status="resolved")))
    return made


def taken(hooks: Any) -> list[tuple[str, str]]:
    """Alert and event of all that a receiver took, digests unfolded; and no id was taken twice."""
    found, ids = [], set[str]()
    for headers, body in hooks.requests:
        assert headers["webhook-id"] not in ids
        ids.add(headers["webhook-id"])
        message = decode_message(body)
        if isinstance(message, Message):
            found.append((message.data.id, message.type))
        else:
            assert message.data.more_held == 0
            found += [(held.alerts[0], held.event) for held in message.data.held]
    return found


def in_order(told: list[tuple[str, str]]) -> dict[str, list[str]]:
    """What was told of each alert, in its order."""
    found: dict[str, list[str]] = {}
    for alert_id, event in told:
        found.setdefault(alert_id, []).append(event)
    return found


def put(rig: Rig, event: Event, alert: Alert) -> None:
    messages = deliveries(event, alert, [rig.settings.name], rig.now)
    queue(rig.redis, messages, rig.now)
