"""`Delivery`: one notification on its way to one receiver, as it waits in the outbox."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from alerts.alert import AlertError, Event
from alerts.notification import Notification, decode_notification, encode_notification
from alerts.stored import PREFIX


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One notification on its way. `id` is the notification's, by which receivers know it again.

    `alert` is the alert it is about, or the key of the group; `body` is the `Notification` as JSON, rendered when it is
    sent. Those named in `after` must be gone before.
    """

    id: str
    receiver: str
    event: Event
    alert: str
    body: str
    created_s: float
    attempts: int = 0
    after: tuple[str, ...] = ()
    reason: str = ""
    revived_s: float = 0.0

    @property
    def waits_since_s(self) -> float:
        """Since when it waits (Unix seconds): since it was made, or was sent again after it had been given up."""
        return max(self.created_s, self.revived_s)


def due_key(receiver: str) -> str:
    """Return the key of the queue of one receiver: delivery keys by Unix time of the next attempt."""
    return f"{PREFIX}due:{receiver}"


def delivery_key(delivery_id: str) -> str:
    """Return the key under which a delivery waits."""
    return f"{PREFIX}delivery:{delivery_id}"


def delivery_of(notification: Notification, now_s: float, *, after: Iterable[str] = ()) -> Delivery:
    """Return the delivery that brings a notification, made at `now_s` (Unix), once those in `after` are gone."""
    return Delivery(
        id=notification.id,
        receiver=notification.receiver,
        event=notification.event,
        alert=notification.group or notification.alerts[0].id,
        body=encode_notification(notification).decode(),
        created_s=now_s,
        after=tuple(after),
    )


def alerts_of(delivery: Delivery) -> list[str]:
    """Return the alerts that a delivery tells of."""
    try:
        return [alert.id for alert in decode_notification(delivery.body).alerts]
    except AlertError:
        return [delivery.alert]
