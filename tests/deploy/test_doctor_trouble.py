from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from alerts.metrics import AlertsMetrics
from deploy.local.trouble import troubles
from ingest.metrics import IngestMetrics


def test_doctor_tells_of_sources_that_fail_and_messages_given_up() -> None:
    registry = CollectorRegistry()
    ingest, alerts = IngestMetrics(registry), AlertsMetrics(registry)
    alerts.rules_valid.set(1)
    for state in ("running", "failing", "gone"):
        ingest.sources.labels(state).set(5 if state == "running" else 0)
    page = generate_latest(registry).decode()
    assert troubles("ingest", page) == troubles("alerts", page) == []

    ingest.sources.labels("failing").set(3)
    alerts.dead_deliveries.set(2)
    alerts.rules_valid.set(0)
    page = generate_latest(registry).decode()
    assert [line.found.split()[0] for line in troubles("ingest", page)] == ["3"]
    assert [line.found.split()[0] for line in troubles("alerts", page)] == ["2", "the"]
    assert all(line.mend and line.state == "warning" for line in troubles("alerts", page))
