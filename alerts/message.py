"""The body of a webhook: `Message` of one alert, `GroupMessage` of several or of a digest; see docs/receivers.md."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from alerts.alert import MAX_BODY_BYTES, Alert, AlertError, By, Message, message_body
from alerts.notification import Held, Notification

GroupEvent = Literal[
    "group.firing", "group.escalated", "group.acknowledged", "group.resolved", "group.repeated", "group.digest"
]


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts told in one. `more_alerts` and `more_held` found no room; `held` is what a digest stands for.

    `by` says of alerts, by their ids, who did by hand what is told.
    """

    group: str
    labels: dict[str, str]
    why: str
    alerts: tuple[Alert, ...]
    by: dict[str, By] = {}
    more_alerts: int = 0
    held: tuple[Held, ...] = ()
    more_held: int = 0


class GroupMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a webhook that tells of several alerts."""

    type: GroupEvent
    timestamp: datetime
    data: Group


class _Kind(msgspec.Struct):
    type: str


_SHORT = 100
_encoder = msgspec.json.Encoder()
_kind = msgspec.json.Decoder(_Kind)
_message = msgspec.json.Decoder(Message)
_group = msgspec.json.Decoder(GroupMessage)


def body_of(told: Notification) -> bytes:
    """Return the body, at most `MAX_BODY_BYTES`: evidence, then summaries, alerts and held messages make room."""
    if told.event != "alert.digest" and len(told.alerts) == 1:
        return message_body(told.event, told.alerts[0], told.by.get(told.alerts[0].id))
    kind = msgspec.convert(told.event.replace("alert.", "group."), GroupEvent)
    alerts, held = list(told.alerts), list(told.held)
    stories = max((len(alert.stories) for alert in alerts), default=0)
    while True:
        shown = [
            msgspec.structs.replace(
                alert, stories=alert.stories[:stories], also=alert.also[:stories], children=alert.children[:stories]
            )
            for alert in alerts
        ]
        group = Group(
            group=told.group,
            labels=told.group_labels,
            why=told.why,
            alerts=tuple(shown),
            by={alert.id: told.by[alert.id] for alert in shown if alert.id in told.by},
            more_alerts=len(told.alerts) - len(alerts),
            held=tuple(held),
            more_held=told.more + len(told.held) - len(held),
        )
        body = _encoder.encode(GroupMessage(type=kind, timestamp=told.at, data=group))
        if len(body) <= MAX_BODY_BYTES or not (stories or alerts or held):
            return body
        if stories:
            stories -= 1
        elif any(len(one.summary) > _SHORT for one in held):
            held = [msgspec.structs.replace(one, summary=one.summary[:_SHORT]) for one in held]
        elif alerts:
            del alerts[-1 - len(alerts) // 8 :]
        elif any(one.summary for one in held):
            held = [msgspec.structs.replace(one, summary="") for one in held]
        else:
            del held[-1 - len(held) // 8 :]


def decode_message(raw: bytes) -> Message | GroupMessage:
    """Return the message in a webhook's body.

    Raises:
        AlertError: it is none.
    """
    try:
        if _kind.decode(raw).type.startswith("group."):
            return _group.decode(raw)
        return _message.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise AlertError(f"not a message of newsquake: {exc}") from exc
