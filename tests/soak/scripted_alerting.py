"""Alerting whose detectors follow a script: alerts open, move, grow and end within an hour, the same each time.

All but the judging is what runs live. Started as a program it makes a process of it for each line on its standard input
(by fork, so that one is there at once) and prints its id.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from alerts.alert import Alert, at_end_of
from alerts.book import Episode
from alerts.judging import Judging
from alerts.lifecycle import Change
from alerts.service import Alerting
from alerts.settings import AlertsSettings
from alerts.windows import Count, WindowItem
from tests.made import made_alert

FIRST = int(datetime(2024, 3, 1, 12, tzinfo=UTC).timestamp()) // 60
MINUTES = 60
TOPIC = "documents"


class Scripted(Judging):
    """Judges nothing: it reads from the script."""

    alerts = 500

    def judge(self, minute: int, counts: Mapping[Count, int], listed: Sequence[WindowItem]) -> list[Change]:
        """Return what the script says of a minute."""
        at, changes = minute - FIRST, []
        episodes = {int(episode.alert.id): episode for episode in self.lifecycle.episodes}
        for number in range(self.alerts):
            episode = episodes.get(number)
            if episode is None:
                if at == number % 10:
                    alert = _opened(number, minute)
                    episodes[number] = Episode(alert=alert, minute=minute, excess={})
                    changes.append(Change(alert, "alert.firing"))
                continue
            fields: dict[str, Any] = {"revision": episode.alert.revision + 1, "updated_at": at_end_of(minute)}
            if at == 45 + number % 11:
                alert = self.lifecycle.resolved(episode.alert, minute, "calm again")
                changes.append(Change(alert, "alert.resolved"))
                del episodes[number]
                continue
            if at == 20 + number % 17 and number % 2:
                fields["severity"] = "critical"
            elif at == 25 + number % 7 and number % 3 == 0:
                fields["series"] = f"company=M{number}"
            elif at % 9 != number % 9:
                continue
            alert = msgspec.structs.replace(episode.alert, **fields)
            episodes[number] = msgspec.structs.replace(episode, alert=alert)
            changes.append(Change(alert, None))
        self.lifecycle.episodes = list(episodes.values())
        return changes


def _opened(number: int, minute: int) -> Alert:
    return made_alert(f"C{number}", at_end_of(minute), id=f"{number:032d}", severity="warning")


def run(redis_url: str, settings: AlertsSettings, alerts: int) -> None:
    """Be an alerting process until SIGTERM."""
    alerting = Alerting(
        settings,
        redis_url=redis_url,
        documents_topic=TOPIC,
        partitions=1,
        registry=CollectorRegistry(),
        lead_s=0.5,
    )
    engine = alerting._engine
    scripted = Scripted(settings, engine._buckets, engine.metrics, None)
    scripted.alerts = alerts
    engine._judging = scripted
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    alerting.run(stop)


def main() -> None:
    """Make a process a line."""
    redis_url, settings, alerts = sys.argv[1], msgspec.json.decode(sys.argv[2]), int(sys.argv[3])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead need no burial
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                run(redis_url, AlertsSettings.model_validate(settings), alerts)
            finally:
                os._exit(0)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
