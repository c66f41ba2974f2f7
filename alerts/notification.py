"""`Notification`: what one receiver is to be told at one moment. The dispatcher makes it, a channel renders it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from alerts.alert import Alert, AlertError, By, Event
from alerts.records import UNREADABLE

if TYPE_CHECKING:
    from alerts.groups import Known, Telling

SCHEMA_VERSION = 1


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """One notification that a digest stands for: `alerts` are the ids of those it told of, `id` was its own.

    `by` names who did by hand what it told, "" for nobody or several.
    """

    id: str
    event: Event
    at: datetime
    alerts: tuple[str, ...]
    summary: str
    by: str = ""


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """What `receiver` is told: `event` happened to `alerts` at `at`. All texts are as they came: channels escape them.

    `id` is the same whenever it is made again. `group` is the key of the dispatcher's group, empty without routes;
    `group_labels` are those that its alerts share. `why` says in words which route or rule led here. `desk_url` is
    where the desk is reached, empty when unknown. `by` says of alerts, by their ids, who did
    by hand what is told. A digest (`alert.digest`) lists what a limit `held`, the oldest
    first, and how much `more` there was; its `alerts` are as they stood last.
    """

    id: str
    receiver: str
    event: Event
    group: str = ""
    group_labels: dict[str, str] = {}
    alerts: tuple[Alert, ...]
    by: dict[str, By] = {}
    at: datetime
    why: str = ""
    desk_url: str = ""
    held: tuple[Held, ...] = ()
    more: int = 0
    schema: int = SCHEMA_VERSION

    @property
    def actor(self) -> str:
        """Who did by hand what is told of all its alerts, "" for nobody or several."""
        actors = {self.by[alert.id].actor if alert.id in self.by else "" for alert in self.alerts}
        return actors.pop() if len(actors) == 1 else ""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Notification)


def encode_notification(notification: Notification) -> bytes:
    """Return the notification as JSON."""
    return _encoder.encode(notification)


def decode_notification(raw: bytes | str) -> Notification:
    """Return the notification in JSON.

    Raises:
        AlertError: it is none.
    """
    try:
        return _decoder.decode(raw)
    except UNREADABLE as exc:
        raise AlertError(f"not a notification: {exc}") from exc


def notification_id(*parts: str) -> str:
    """Return an id that is the same for the same parts, such as receiver, alert or group, event and log entry."""
    return "msg_" + hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def by_hand(told: Telling) -> dict[str, By]:
    """Return who did by hand what is told of each alert; what grows or still fires is nobody's doing."""
    if told.event not in ("alert.firing", "alert.acknowledged", "alert.resolved"):
        return {}
    return {
        known.alert: By(
            actor=known.actor, at=datetime.fromtimestamp(known.at_s, UTC), reason=known.reason, did=known.did
        )
        for known in told.alerts
        if known.actor
    }


def as_told(alert: Alert, known: Known) -> Alert:
    """Return an alert as it stood at the transition that is told, where it has gone on since or people ended it."""
    resolved = known.state == "resolved"
    if (
        alert.revision == known.revision
        and (alert.status == "resolved") == resolved
        and alert.severity == known.severity
    ):
        return alert
    at = datetime.fromtimestamp(known.at_s, UTC)
    same = alert.revision == known.revision
    return msgspec.structs.replace(
        alert,
        revision=known.revision,
        status="resolved" if resolved else "firing",
        severity=known.severity,
        summary=alert.summary if same else known.summary,
        updated_at=alert.updated_at if same else at,
        resolved_at=(alert.resolved_at or at) if resolved else None,
    )
