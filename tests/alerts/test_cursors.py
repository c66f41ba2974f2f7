"""What stands in a cursor's place and is none stops nobody who follows the log, and loses and repeats nothing."""

from __future__ import annotations

import pytest
import redis
from prometheus_client import CollectorRegistry

from alerts import publish, rebuild
from alerts.alert import Alert
from alerts.metrics import AlertsMetrics
from alerts.publish import KafkaPlace, Publisher
from alerts.store import LOG
from alerts.told_book import COPY, CURSOR
from tests.alerts.test_dispatch import NAMES, Office

RUBBISH = ["rubbish", b"\xff", "", "9", "1-", "-1-0", "1-0 ", "99999999999999-0", f"1-{2**64}"]


@pytest.fixture
def office(store: redis.Redis, alert: Alert) -> Office:
    return Office(store, alert)


@pytest.mark.parametrize("raw", RUBBISH)
def test_a_cursor_that_is_no_place_in_the_log_loses_and_repeats_nothing(
    office: Office, raw: str | bytes, caplog: pytest.LogCaptureFixture
) -> None:
    office.put("A")
    office.put("B")
    office.put("B", 2, status="resolved")
    office.step()
    assert len(office.news()) == 6
    office.put("C")
    office.put("C", 2, status="resolved")  # while nobody dispatches
    office.redis.set(CURSOR, raw)
    office.start()
    office.step()
    assert office.news() == [(name, event, "C") for name in NAMES for event in ("firing", "resolved")]
    assert office.redis.get(CURSOR) == office.redis.get(COPY) == office.redis.xrevrange(LOG, count=1)[0][0]
    office.start()
    office.step(100)
    assert office.news() == []
    assert caplog.text.count("no place in the log") == 1
    labels = {"part": "dispatching"}
    assert office.registry.get_sample_value("newsquake_alerts_unexpected_errors_total", labels) == 1


@pytest.mark.parametrize("copy", [None, "rubbish too"])
def test_without_a_copy_what_stands_is_looked_through(office: Office, copy: str | None) -> None:
    for name in ("A", "B"):
        office.put(name)
    office.step()
    office.news()
    office.put("A", 2, status="resolved")
    office.actions.acknowledge("B", "ann")
    office.put("C")
    office.redis.set(CURSOR, "rubbish")
    office.redis.delete(COPY)
    if copy is not None:
        office.redis.set(COPY, copy)
    office.start()
    office.step()
    events = (("resolved", "A"), ("acknowledged", "B"), ("firing", "C"))
    assert sorted(office.news()) == sorted((name, *event) for name in NAMES for event in events)
    office.put("C", 2, status="resolved")
    office.step()
    assert office.news() == [(name, "resolved", "C") for name in NAMES]


@pytest.mark.parametrize("raw", RUBBISH)
def test_the_publisher_sends_all_that_stands_and_goes_on(
    office: Office, monkeypatch: pytest.MonkeyPatch, raw: str | bytes, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[set[bytes]] = []
    monkeypatch.setattr(rebuild, "last_values", lambda _: {})
    monkeypatch.setattr(Publisher, "_send", lambda _, records: sent.append({*records}) or len(records))
    registry = CollectorRegistry()
    publisher = Publisher(office.redis, KafkaPlace("broker:9092", {}, "alerts"), AlertsMetrics(registry))
    office.put("A")
    publisher.step()
    office.put("B")
    office.redis.set(publish.CURSOR, raw)
    for _ in range(3):
        publisher.step()
    assert sent == [{b"A"}, {b"A", b"B"}]
    assert office.redis.get(publish.CURSOR) == office.redis.xrevrange(LOG, count=1)[0][0]
    assert caplog.text.count("no place in the log") == 1
    labels = {"part": "publishing"}
    assert registry.get_sample_value("newsquake_alerts_unexpected_errors_total", labels) == 1


def test_where_all_is_sent_the_log_is_not_gone_through_as_well(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[set[bytes]] = []
    monkeypatch.setattr(publish, "_ENTRIES", 2)
    monkeypatch.setattr(rebuild, "last_values", lambda _: {})
    monkeypatch.setattr(Publisher, "_send", lambda _, records: sent.append({*records}) or len(records))
    publisher = Publisher(office.redis, KafkaPlace("broker:9092", {}, "alerts"), AlertsMetrics(CollectorRegistry()))
    for name in "ABCDE":
        office.put(name)
    while publisher.step():
        pass
    assert sent == [{b"A", b"B", b"C", b"D", b"E"}]
