"""PagerDuty takes events: of a group each alert is told by itself, within the limit, and refused by itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis
from prometheus_client import CollectorRegistry

from alerts.alert import Alert
from alerts.channels.channel import Answer, HttpChannel
from alerts.dispatch import Dispatcher
from alerts.metrics import AlertsMetrics
from alerts.sender import Sender
from tests.alerts.test_channels import channel
from tests.alerts.test_dispatch import Office

GROUPED = "route: {receiver: desk, group_by: [kind], group_wait: 30s}"
NAMES = [f"A{number:02d}" for number in range(20)]


@pytest.fixture
def office(store: redis.Redis, alert: Alert) -> Office:
    """Twenty alerts in one group."""
    office = Office(store, alert, GROUPED)
    office.dispatcher = Dispatcher(store, lambda: office.rules, office.metrics, singly={"desk"})
    for name in NAMES:
        office.put(name)
    office.step()
    office.step(30)
    return office


def sender_of(office: Office, url: str, per_minute: int) -> Sender:
    pager = channel("pagerduty", url, name="desk", per_minute=per_minute)
    return Sender(pager, office.outbox, AlertsMetrics(CollectorRegistry()), lambda: office.now_s)


def test_a_group_keeps_to_the_limit_a_minute(office: Office, hooks: Any) -> None:
    sender = sender_of(office, hooks.url, 5)
    for minute in range(1, 5):
        for _ in range(60):
            while sender.step():
                pass
            office.now_s += 1
        assert len(hooks.requests) == 5 * minute
    assert sorted(json.loads(body)["dedup_key"] for _, body in hooks.requests) == NAMES


def test_an_event_that_is_refused_takes_no_other_with_it(
    office: Office, hooks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = HttpChannel._post

    async def picky(self: HttpChannel, request: Any) -> Any:
        return Answer(400, None, b"") if b'"dedup_key":"A03"' in request.body else await real(self, request)

    monkeypatch.setattr(HttpChannel, "_post", picky)
    sender = sender_of(office, hooks.url, 60)
    office.now_s += 1
    while sender.step():
        pass
    assert [json.loads(body)["dedup_key"] for _, body in hooks.requests] == [name for name in NAMES if name != "A03"]
    assert office.outbox.dead_count() == 1
