"""Prometheus Alertmanager, API v2: an alert's labels never change but for its severity, so that it stays one alert.

So they are of the series that it began on, wherever it moves; what it is about now stands in the annotations.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from pydantic import SecretStr

from alerts.alert import Alert
from alerts.channels.channel import HttpChannel, Request, as_json
from alerts.channels.content import content_of
from alerts.channels.text import clean
from alerts.matchers import labels_of
from alerts.notification import Notification
from alerts.receivers import AlertmanagerReceiver

_HOLDS = timedelta(days=7)
"""How long Alertmanager takes an alert to fire when it hears no more of it. Its own five minutes would resolve it."""
_STABLE = ("series", "kind", "topic", "company", "theme")


class AlertmanagerChannel(HttpChannel):
    """Posts the alerts as they stand, all in one request."""

    def __init__(self, settings: AlertmanagerReceiver) -> None:
        url = settings.url.get_secret_value().rstrip("/") + "/api/v2/alerts"
        super().__init__(settings, SecretStr(url))
        self._labels = settings.labels
        self._headers: dict[str, str] = {}
        if settings.password is not None:
            user = f"{settings.username}:{settings.password.get_secret_value()}".encode()
            self._headers = {"authorization": f"Basic {b64encode(user).decode()}"}

    def requests(self, told: Notification, now: datetime) -> Sequence[Request]:
        """Return the alerts; of the severity that an alert has not, that it is over."""
        posted = [self._alert(told, alert, severity) for alert in told.alerts for severity in ("warning", "critical")]
        return [Request(as_json(posted), self._headers)]

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
                **dict(part.facts),
            },
            "startsAt": alert.started_at.isoformat(),
            "endsAt": (told.at + _HOLDS if fires else max(alert.started_at, alert.resolved_at or told.at)).isoformat(),
        }
        return found | ({"generatorURL": part.url} if part.url else {})
