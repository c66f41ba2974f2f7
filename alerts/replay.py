"""Sending again what was given up, without telling an old state as if it were the present.

A receiver may have been told more of an alert since one of its messages was given up. Sent now, a "firing" after the
"resolved" would open an incident that nobody ends. So of what was given up a receiver gets only what says more than it
knows by now, and, with each message, those given up that came after it. `Sender` asks once more before it sends, since
what waits goes on meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from alerts.alert import AlertError
from alerts.delivery import Delivery, alerts_of
from alerts.history import KEPT_S, Told
from alerts.notification import Notification, decode_notification, encode_notification
from alerts.outbox import Outbox

TOLD_LATER = "its receiver has been told something later"
_History = Callable[[str], Iterable[Told]]


class Replayed(NamedTuple):
    """How many deliveries were wanted and are due again, how many came along, and how many are told no more."""

    due: int
    along: int
    superseded: int


def replay(outbox: Outbox, wanted: Callable[[Delivery], bool], now_s: float) -> Replayed:
    """Queue the dead deliveries that are wanted again, with all their attempts before them, and what came after them.

    What tells of nothing that its receiver does not know by now leaves the dead list as superseded.

    Raises:
        redis.RedisError: the server failed. Calling it again goes on from there.
    """
    histories: dict[str, list[Told]] = {}

    def history(alert: str) -> list[Told]:
        if alert not in histories:
            histories[alert] = outbox.told(alert)
        return histories[alert]

    due = along = superseded = 0
    going: set[tuple[str, str]] = set()
    for raw, delivery in sorted(outbox.given_up(), key=lambda each: each[1].created_s):
        about = {(delivery.receiver, alert) for alert in alerts_of(delivery)}
        asked = wanted(delivery)
        if not asked and not about & going:
            continue
        old = delivery.created_s < now_s - KEPT_S
        left = None if old else still_news(delivery, history)
        if left is None:
            why = "nobody knows any more what its receiver was told since" if old else TOLD_LATER
            superseded += outbox.supersede_dead(raw, msgspec.structs.replace(delivery, reason=why), now_s)
        elif outbox.revive(raw, left, now_s):
            going |= about
            due, along = due + asked, along + (not asked)
    return Replayed(due, along, superseded)


def still_news(delivery: Delivery, history: _History) -> Delivery | None:
    """Return a delivery without the alerts of which its receiver was told something later; None when none is left.

    `history` gives what was tried of an alert's deliveries. One that cannot be read is left as it is.
    """
    try:
        told = decode_notification(delivery.body)
    except AlertError:
        return delivery
    known = {alert.id for alert in told.alerts if _told_since(delivery, history(alert.id))}
    if not known:
        return delivery
    left = _without(told, known)
    if left is None:
        return None
    return msgspec.structs.replace(delivery, body=encode_notification(left).decode())


def _told_since(delivery: Delivery, history: Iterable[Told]) -> bool:
    return any(
        line.status == "delivered" and line.receiver == delivery.receiver and line.created_s > delivery.created_s
        for line in history
    )


def _without(told: Notification, known: set[str]) -> Notification | None:
    alerts = tuple(alert for alert in told.alerts if alert.id not in known)
    held = tuple(one for one in told.held if not known.issuperset(one.alerts))
    return msgspec.structs.replace(told, alerts=alerts, held=held) if alerts else None
