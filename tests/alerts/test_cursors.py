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
    assert counted(office.registry, "dispatching") == 1


def counted(registry: CollectorRegistry, part: str) -> float | None:
    return registry.get_sample_value("newsquake_alerts_unexpected_errors_total", {"part": part})


@pytest.mark.parametrize("before", ["put back", "by a version before"])
def test_a_cursor_of_an_empty_log_is_none_yet(office: Office, before: str, caplog: pytest.LogCaptureFixture) -> None:
    if before == "put back":
        office.put("B")
        [lost] = office.store.views()
        office.redis.flushall()
        assert office.store.restore(lost)
        office.start()
        office.step()
        assert office.redis.get(CURSOR) == office.redis.get(COPY) == b""
    else:
        office.redis.set(CURSOR, "")
    office.news()
    office.put("A")
    office.put("A", 2, status="resolved")
    office.start()
    office.step()
    assert [each for each in office.news() if each[2] == "A"] == [
        (name, event, "A") for name in NAMES for event in ("firing", "resolved")
    ]
    assert "no place in the log" not in caplog.text
    assert not counted(office.registry, "dispatching")
    assert office.redis.get(CURSOR) == office.redis.xrevrange(LOG, count=1)[0][0]


def test_a_cursor_of_another_type_is_one_that_is_no_place(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    office.put("A")
    office.step()
    office.news()
    office.put("B")
    office.redis.delete(CURSOR)
    office.redis.rpush(CURSOR, "what")
    office.start()
    office.step()
    assert office.news() == [(name, "firing", "B") for name in NAMES]
    assert office.redis.get(CURSOR) == office.redis.xrevrange(LOG, count=1)[0][0]
    assert "holds no place in the log, another type; going on after" in caplog.text
    assert counted(office.registry, "dispatching") == 1


def test_who_deletes_the_last_entry_of_the_log_breaks_no_cursor(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    office.put("A")
    office.put("B")
    office.step()
    office.news()
    for _ in range(2):  # one is left, then none
        office.redis.xdel(LOG, office.redis.xrevrange(LOG, count=1)[0][0])
        office.start()
        office.step()
    office.put("C")
    office.step()
    assert office.news() == [(name, "firing", "C") for name in NAMES]
    assert "no place in the log" not in caplog.text
    assert not counted(office.registry, "dispatching")


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


@pytest.mark.parametrize("raw", [each for each in RUBBISH if each])
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
    assert counted(registry, "publishing") == 1


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
