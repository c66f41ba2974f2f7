"""What is put back from Kafka as firing may be over: before alerting has looked nobody takes it for what goes on."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
import redis
from prometheus_client import CollectorRegistry

from alerts import engine as engine_module
from alerts.actions import ActionError
from alerts.alert import Alert
from alerts.engine import AlertEngine
from alerts.settings import AlertsSettings
from tests.alerts.test_reopening import MINUTE, START, Office

UNSURE = "nq:{alerts}:unsure"


@pytest.fixture
def office(store: redis.Redis, alert: Alert) -> Office:
    """Somebody resolved an alert, its surge ended then, which Kafka does not know, and Redis was filled from there."""
    made = Office(store, alert)
    made.actions.resolve(made.alert.id, "ben", "the wrong one")
    in_kafka = made.view
    made.ends()
    store.flushall()
    assert made.store.restore(in_kafka)
    assert made.view.alert.status == "firing"
    return made


@pytest.fixture
def engine(one_server: str) -> Iterator[AlertEngine]:
    settings = AlertsSettings.model_validate({"clock": "event", "grace_s": 0, "snapshot_s": 1e-9})
    made = AlertEngine(
        settings, redis_url=one_server, documents_topic="documents", partitions=1, registry=CollectorRegistry()
    )
    yield made
    made.close()


def judge(office: Office, engine: AlertEngine, minutes: float) -> None:
    """Let the items' time come so far."""
    office.minutes = minutes
    clock_ms = int((START + minutes * MINUTE).timestamp() * 1_000)
    office.redis.hset("nq:{documents-0}:progress", mapping={"offset": 1, "clock_ms": clock_ms})
    for _ in range(4):
        while engine.tick():
            pass


def test_within_the_hour_it_is_reopened_and_after_it_not_before_alerting_has_looked(
    office: Office, engine: AlertEngine
) -> None:
    office.minutes = 60
    office.actions.reopen(office.alert.id, "ben")
    office.actions.resolve(office.alert.id, "ben")
    office.minutes = 121
    with pytest.raises(ActionError, match="it is not known yet whether its surge goes on"):
        office.actions.reopen(office.alert.id, "ben")
    judge(office, engine, 125)
    assert office.view.alert.status == "resolved"
    with pytest.raises(ActionError, match="its surge is over since: after an hour"):
        office.actions.reopen(office.alert.id, "ben")
    assert not office.redis.exists(UNSURE)


def test_of_one_whose_detector_has_spoken_it_is_known(office: Office) -> None:
    office.minutes = 120
    office.store.put(msgspec.structs.replace(office.alert, revision=7, updated_at=office.now))
    assert office.actions.reopen(office.alert.id, "ben").state == "firing"
    assert not office.redis.exists(UNSURE)


def test_what_a_command_puts_back_while_alerting_runs_is_looked_at_too(
    store: redis.Redis, alert: Alert, engine: AlertEngine
) -> None:
    office = Office(store, alert)
    judge(office, engine, 1)
    office.minutes = 2
    another = office.another(series="company=JPM")
    office.actions.resolve(another.id, "ben")
    lost = office.store.view(another.id)
    assert lost is not None
    for key in ("alert", "life", "history"):
        store.delete(f"nq:{{alerts}}:{key}:{another.id}")
    assert office.store.restore(lost)
    store.sadd(UNSURE, "gone", b"\xff")
    judge(office, engine, 3)
    view = office.store.view(another.id)
    assert view is not None
    assert (view.alert.status, view.life.actor) == ("resolved", "ben")
    assert not store.exists(UNSURE)


def put_back_one_of(office: Office, minutes: float) -> Alert:
    """Lose an alert that fired so late, and put it back."""
    office.minutes = minutes
    another = office.another(series="company=JPM")
    lost = office.store.view(another.id)
    assert lost is not None
    for key in ("alert", "life", "history"):
        office.redis.delete(f"nq:{{alerts}}:{key}:{another.id}")
    assert office.store.restore(lost)
    return another


def reach(office: Office, minutes: float) -> None:
    """Let what the workers have read come so far."""
    clock_ms = int((START + minutes * MINUTE).timestamp() * 1_000)
    office.redis.hset("nq:{documents-0}:progress", mapping={"offset": 1, "clock_ms": clock_ms})


def test_who_reads_history_ends_nothing_that_fired_later_than_they_have_come(
    store: redis.Redis, alert: Alert, engine: AlertEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = Office(store, alert)
    judge(office, engine, 1)
    monkeypatch.setattr(engine_module, "_CHUNK_MIN", 1)
    monkeypatch.setattr(engine_module, "_LOOK_S", 0)
    another = put_back_one_of(office, 20)
    reach(office, 40)
    ends = []
    while engine.tick():
        view = office.store.view(another.id)
        assert view is not None
        assert store.sismember(UNSURE, another.id)
        ends.append(view.alert.status)
    assert ends.count("firing") == len(ends) > 30
    for _ in range(3):
        engine.tick()
    view = office.store.view(another.id)
    assert view is not None
    assert view.alert.resolved_at is not None
    assert (view.alert.status, view.alert.resolved_at > view.alert.started_at) == ("resolved", True)
    assert not store.exists(UNSURE)


@pytest.mark.parametrize("restarts", [False, True])
def test_nor_where_what_they_read_from_has_gone_back_in_time(
    store: redis.Redis, alert: Alert, engine: AlertEngine, restarts: bool
) -> None:
    office = Office(store, alert)
    judge(office, engine, 1)
    another = put_back_one_of(office, 20)
    for minutes in (2, 10, 19):
        if restarts:
            engine.forget()
        judge(office, engine, minutes)
        view = office.store.view(another.id)
        assert view is not None
        assert view.alert.status == "firing"
        assert store.sismember(UNSURE, another.id)
    judge(office, engine, 22)
    view = office.store.view(another.id)
    assert view is not None
    assert view.alert.status == "resolved"
    assert not store.exists(UNSURE)


def test_what_was_over_is_known_to_be(store: redis.Redis, alert: Alert) -> None:
    office = Office(store, alert)
    office.actions.resolve(alert.id, "ben")
    office.ends()
    view = office.view
    store.flushall()
    assert office.store.restore(view)
    assert not store.exists(UNSURE)
    office.minutes = 61
    with pytest.raises(ActionError, match="its surge is over since"):
        office.actions.reopen(alert.id, "ben")
