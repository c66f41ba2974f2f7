"""How people stand to what is open, as numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry
from redis import Redis

from alerts.actions import Actions
from alerts.alert import Alert
from alerts.matchers import Matcher
from alerts.service import Alerting
from alerts.settings import AlertsSettings
from alerts.silences import Silence
from alerts.store import AlertStore


def test_open_alerts_by_state_and_how_long_nobody_acknowledged(store: Redis, one_server: str, alert: Alert) -> None:
    now = datetime.now(UTC)

    def put(name: str, minutes_ago: int, severity: Any) -> None:
        at = now - timedelta(minutes=minutes_ago)
        made = msgspec.structs.replace(
            alert, id=name, series=f"company={name}", name=name, severity=severity, started_at=at, updated_at=at
        )
        AlertStore(store).put(made)

    put("A", 50, "critical")
    put("B", 40, "critical")
    put("C", 90, "warning")
    put("D", 10, "critical")
    registry = CollectorRegistry()
    alerting = Alerting(
        AlertsSettings(), redis_url=one_server, documents_topic="documents", partitions=1, registry=registry
    )

    def values() -> dict[str, float]:
        alerting._watch()
        found = {
            sample.labels["state"]: sample.value
            for family in registry.collect()
            for sample in family.samples
            if sample.name == "newsquake_alerts_lives"
        }
        for severity in ("warning", "critical"):
            found[severity] = registry.get_sample_value("newsquake_alerts_unheard_seconds", {"severity": severity}) or 0
        return {name: round(value / 60) if value > 60 else value for name, value in found.items()}

    assert values() == {"firing": 4, "acknowledged": 0, "silenced": 0, "warning": 90, "critical": 50}
    actions = Actions(store)
    actions.acknowledge("A", "jo")
    actions.acknowledge("C", "jo")
    silence = Silence(
        id="s", matchers=(Matcher("company", "=", "B"),), starts_at=now, ends_at=now + timedelta(hours=1), author="jo",
        reason="known", created_at=now,
    )  # fmt: skip
    actions.silence(silence, "jo")
    assert values() == {"firing": 1, "acknowledged": 2, "silenced": 1, "warning": 0, "critical": 10}
    alerting._leader.close()
    alerting._engine.close()
