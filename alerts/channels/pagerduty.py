"""PagerDuty, Events API v2: trigger, acknowledge and resolve of an alert share its id as `dedup_key`.

After PagerDuty's "Events API v2 Overview", "Send an Alert Event", "Events API Rate Limits" (developer.pagerduty.com).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from alerts.alert import Alert
from alerts.channels.channel import AT_ONCE, Answer, HttpChannel, Request, Result, as_json, meaning_of_status
from alerts.channels.content import content_of
from alerts.channels.text import clean
from alerts.notification import Notification
from alerts.receivers import PagerDutyReceiver
from alerts.series import kind


class PagerDutyChannel(HttpChannel):
    """Posts one event for each alert. A digest cannot stand for events: beyond the limit they wait.

    The dispatcher makes a notification for each alert, so that one that is refused takes no other with it.
    """

    digests = 0
    at_once = AT_ONCE

    def __init__(self, settings: PagerDutyReceiver) -> None:
        super().__init__(settings, settings.url)
        self._key = settings.routing_key

    def requests(self, told: Notification, now: datetime) -> Sequence[Request]:
        """Return an event for each alert; one that comes twice changes nothing there."""
        return [Request(as_json(self._event(told, alert))) for alert in told.alerts]

    def meaning(self, answer: Answer, now: datetime) -> Result:
        """Return what an answer means: an event that PagerDuty calls invalid is not sent again."""
        if answer.status == 400:
            return Result("refused", "PagerDuty answered 400: the event or its routing key is not valid")
        return meaning_of_status(answer, now)

    def _event(self, told: Notification, alert: Alert) -> dict[str, Any]:
        action = "trigger"
        if alert.status == "resolved" or told.event == "alert.resolved":
            action = "resolve"
        elif told.event == "alert.acknowledged":
            action = "acknowledge"
        event: dict[str, Any] = {
            "routing_key": self._key.get_secret_value(),
            "event_action": action,
            "dedup_key": alert.id,
        }
        if action != "trigger":
            return event
        one = Notification(
            id=told.id, receiver=told.receiver, event=told.event, alerts=(alert,), by=told.by, at=told.at,
            why=told.why, desk_url=told.desk_url,
        )  # fmt: skip
        content = content_of(one)
        (part,) = content.parts
        details = dict(part.facts) | {
            "stories": [f"{story.title} ({story.source})" for story in part.stories],
            "why told": content.why,
        }
        links = [{"href": url, "text": label} for label, url in content.actions]
        links += [{"href": story.url, "text": story.title} for story in part.stories if story.url]
        event["payload"] = {
            "summary": clean(alert.summary, 1_000) or part.name,
            "source": "newsquake",
            "severity": alert.severity,
            "timestamp": alert.updated_at.isoformat(),
            "component": clean(alert.series, 200),
            "group": alert.group or alert.id,
            "class": kind(alert.series),
            "custom_details": details,
        }
        event |= {"links": links, "client": "newsquake"}
        return event | ({"client_url": part.url} if part.url else {})
