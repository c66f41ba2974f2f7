"""A digest: one notification in the place of many that a receiver's limit held back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from alerts.alert import Alert
from alerts.delivery import Delivery, delivery_of
from alerts.notification import Held, Notification, decode_notification, notification_id

_MAX_ALERTS, _WITH_EVIDENCE = 200, 20


def foldable(due: Sequence[Delivery]) -> list[Delivery]:
    """Return those of the deliveries, from the first, that one digest can stand for: of 200 alerts at most.

    A digest among them ends it: it is told by itself, and in its turn.

    Raises:
        AlertError: one of them cannot be read.
    """
    members, alerts = list[Delivery](), set[str]()
    for delivery in due:
        alerts |= {alert.id for alert in decode_notification(delivery.body).alerts}
        if delivery.event == "alert.digest" or (members and len(alerts) > _MAX_ALERTS):
            break
        members.append(delivery)
    return members


def digest_of(members: Sequence[Delivery], at: datetime) -> Delivery:
    """Return the delivery that stands for these of one receiver, the oldest first; made again it has the same id.

    It lists each of them, and the alerts as they stood last: the evidence of the first 20 is kept. It counts as made
    when the last of them was, so that it can be compared with what was made before and after.

    Raises:
        AlertError: one of them cannot be read.
    """
    held, alerts = list[Held](), dict[str, Alert]()
    for member in members:
        told = decode_notification(member.body)
        desk_url = told.desk_url
        ids = tuple(alert.id for alert in told.alerts)
        summary = told.alerts[0].summary if len(ids) == 1 else ", ".join(alert.name for alert in told.alerts)
        held.append(Held(id=member.id, event=told.event, at=told.at, alerts=ids, summary=summary[:500], by=told.actor))
        for alert in told.alerts:
            known = alerts.get(alert.id)
            if known is None or alert.revision >= known.revision:
                alerts[alert.id] = alert
    last = sorted(alerts.values(), key=lambda alert: (alert.severity != "critical", alert.started_at))
    bare = [msgspec.structs.replace(alert, stories=(), also=(), children=()) for alert in last[_WITH_EVIDENCE:]]
    told = Notification(
        id=notification_id("digest", *(member.id for member in members)),
        receiver=members[0].receiver,
        event="alert.digest",
        alerts=(*last[:_WITH_EVIDENCE], *bare),
        at=at,
        why=f"{len(members)} messages waited, and the limit a minute of this receiver was reached",
        desk_url=desk_url,
        held=tuple(held),
    )
    return delivery_of(told, max(member.created_s for member in members))
