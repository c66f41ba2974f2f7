"""Two made-up messages by which a receiver is tried: an alert fires and is resolved, so that nothing stays open."""

from __future__ import annotations

from datetime import datetime

import msgspec

from alerts.alert import Alert, Figures, Story
from alerts.notification import Notification, notification_id


def trial(receiver: str, now: datetime, desk_url: str = "") -> tuple[Notification, Notification]:
    """Return the two, made at `now` (UTC). Both say in name and summary that nothing has happened."""
    figures = Figures(
        window_min=60, observed=14, others=1, copies=3, expected=1.2, low=0, high=4, p_value=2e-9, z=6.1, share=0.2,
        history=33.0,
    )  # fmt: skip
    story = Story(
        title="A headline, of which nothing is true", publisher="newsquake", source="test", url="https://example.org/",
        published_at=now, topic="", companies=(), negative=0.9,
    )  # fmt: skip
    fires = Alert(
        id=notification_id("trial", receiver, now.isoformat()).removeprefix("msg_"),
        revision=1,
        status="firing",
        severity="warning",
        series="market",
        name="TEST of this receiver",
        started_at=now,
        updated_at=now,
        summary="TEST: nothing has happened; somebody tries whether alerts of newsquake arrive here",
        figures=figures,
        peak=figures,
        publishers=1,
        stories=(story,),
    )
    over = msgspec.structs.replace(
        fires, revision=2, status="resolved", resolved_at=now, summary="TEST: over; the next alerts are real"
    )
    first = Notification(
        id=notification_id(fires.id, "alert.firing", receiver),
        receiver=receiver,
        event="alert.firing",
        alerts=(fires,),
        at=now,
        why="`newsquake receivers test` was called",
        desk_url=desk_url,
    )
    last = msgspec.structs.replace(
        first, id=notification_id(fires.id, "alert.resolved", receiver), event="alert.resolved", alerts=(over,)
    )
    return first, last
