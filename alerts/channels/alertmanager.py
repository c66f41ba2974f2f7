"""Prometheus Alertmanager, API v2: an alert's labels never change but for its severity, so that it stays one alert.

So they are of the series that it began on, wherever it moves; what it is about now stands in the annotations.

After Alertmanager's "Alerts API" (prometheus.io/docs/alerting) and its OpenAPI file of API v2.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from pydantic import SecretStr

from alerts.alert import Alert
from alerts.channels.channel import AT_ONCE, Answer, HttpChannel, Request, Result, as_json, meaning_of_status
from alerts.channels.content import content_of
from alerts.channels.text import clean
from alerts.episodes import LONGEST_MIN
from alerts.matchers import labels_of
from alerts.notification import Notification
from alerts.receivers import AlertmanagerReceiver

_HOLDS = timedelta(minutes=LONGEST_MIN, days=1)
"""How long Alertmanager takes an alert to fire when it hears no more of it. Its own five minutes would resolve it."""
_STABLE = ("series", "kind", "topic", "company", "theme")


class AlertmanagerChannel(HttpChannel):
    """Posts the alerts as they stand, all in one request."""

    at_once = AT_ONCE

    def __init__(self, settings: AlertmanagerReceiver) -> None:
        url = settings.url.get_secret_value().rstrip("/") + "/api/v2/alerts"
        super().__init__(settings, SecretStr(url))
        self._labels = settings.labels
        self._headers: dict[str, str] = {}
        if settings.password is not None:
            user = f"{settings.username}:{settings.password.get_secret_value()}".encode()
            self._headers = {"authorization": f"Basic {b64encode(user).decode()}"}

    def requests(self, told: Notification, now: datetime) -> Sequence[Request]:
        """Return the alerts; of one that may have fired as `warning` before it was critical, that this is over, too."""
        posted = [self._alert(told, alert, severity) for alert in told.alerts for severity in _severities(told, alert)]
        return [Request(as_json(posted), self._headers)]

    def meaning(self, answer: Answer, now: datetime) -> Result:
        """Return what an answer means: alerts that Alertmanager calls invalid are not sent again."""
        if answer.status == 400:
            return Result("refused", "Alertmanager answered 400: an alert is not valid; its log says why")
        return meaning_of_status(answer, now)

    def _alert(self, told: Notification, alert: Alert, severity: str) -> dict[str, Any]:
        one = Notification(
            id=told.id, receiver=told.receiver, event=told.event, alerts=(alert,), by=told.by, at=told.at,
            desk_url=told.desk_url,
        )  # fmt: skip
        (part,) = content_of(one).parts
        labels = labels_of(msgspec.structs.replace(alert, series=alert.began_on or alert.series))
        fires = alert.status == "firing" and alert.severity == severity
        found: dict[str, Any] = {
            "labels": {
                "alertname": "NewsquakeSurge",
                **{name: text for name in _STABLE if (text := clean(labels.get(name, ""), 200))},
                "alert_id": alert.id,
                "severity": severity,
                **self._labels,
            },
            "annotations": {
                "name": part.name,
                "summary": part.sentence,
                "stories": "\n".join(f"{story.title} ({story.source}) {story.url}".strip() for story in part.stories),
                **{_name(label): value for label, value in part.facts},
            },
            "startsAt": alert.started_at.isoformat(),
            "endsAt": (told.at + _HOLDS if fires else max(alert.started_at, alert.resolved_at or told.at)).isoformat(),
        }
        return found | ({"generatorURL": part.url} if part.url else {})


def _severities(told: Notification, alert: Alert) -> tuple[str, ...]:
    """Return those of which something is to be said: receivers of Alertmanager are told of all that it is told is over.

    An alert grows from warning to critical and never back; one that fires or goes on was told by its severity before.
    """
    grown = alert.severity == "critical" and told.event not in ("alert.firing", "alert.repeated")
    return ("warning", "critical") if grown else (alert.severity,)


def _name(label: str) -> str:
    """Return the name of an annotation: before 0.27, and in its classic mode, Alertmanager takes no spaces."""
    return label.lower().replace(" ", "_")
