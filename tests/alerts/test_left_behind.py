"""What was kept for receivers and alerts that are gone goes, too: else it would grow for ever."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import redis
from prometheus_client import CollectorRegistry

from alerts.alert import Alert
from alerts.breaker import Down
from alerts.delivery import Delivery, delivery_key, due_key
from alerts.digest import digest_of
from alerts.engine import AlertEngine
from alerts.settings import AlertsSettings
from alerts.store import AlertStore, FencedError
from tests.alerts.rig import NOW, Rig, deliveries, queue

HELD, OPEN = "nq:{alerts}:held:desk", "nq:{alerts}:open"
DOWN = Down(since_s=NOW, reason="away", wait_s=30.0, probe_s=NOW)


@pytest.fixture
def digest(rig: Rig, alert: Alert) -> Delivery:
    """One that stands for three messages."""
    alerts = [msgspec.structs.replace(alert, id=f"{number:032x}") for number in range(3)]
    made = [each for one in alerts for each in deliveries("alert.firing", one, ["desk"], NOW)]
    queue(rig.redis, made, NOW)
    found = digest_of(made, datetime.fromtimestamp(NOW, UTC))
    assert rig.outbox.fold(found, made, NOW)
    assert rig.redis.hlen(HELD) == 3
    other = msgspec.structs.replace(found, id="msg_other")
    rig.redis.hset(HELD, "msg_member", other.id)
    return found


def _overwrites(rig: Rig, digest: Delivery) -> None:
    rig.redis.set(delivery_key(digest.id), b"\xff")
    assert rig.outbox.due("desk", NOW) == []


def _deletes(rig: Rig, digest: Delivery) -> None:
    rig.redis.delete(delivery_key(digest.id))
    assert rig.outbox.due("desk", NOW) == []


def _empties(rig: Rig, digest: Delivery) -> None:
    rig.redis.set(delivery_key(digest.id), msgspec.json.encode(msgspec.structs.replace(digest, body="{}")))
    rig.sender.step()
    assert [dead.id for dead in rig.outbox.dead()] == [digest.id]


def _takes(rig: Rig, digest: Delivery) -> None:
    rig.sender.step()
    assert rig.count("delivered") == 1


@pytest.mark.parametrize("ends", [_overwrites, _deletes, _empties, _takes])
def test_when_a_digest_is_gone_nobody_remembers_for_what_it_stood(
    rig: Rig, digest: Delivery, ends: Callable[[Rig, Delivery], None]
) -> None:
    ends(rig, digest)
    assert rig.redis.hgetall(HELD) == {b"msg_member": b"msg_other"}
    assert not rig.redis.exists(due_key("desk"))


def test_while_a_digest_waits_it_is_known_for_what_it_stands(rig: Rig, hooks: Any, digest: Delivery) -> None:
    hooks.usual = 500
    rig.sender.step()
    assert rig.count("failed") == 1
    assert rig.redis.hlen(HELD) == 4


def test_of_a_receiver_that_is_configured_no_more_nothing_is_left(rig: Rig, digest: Delivery) -> None:
    rig.redis.hset("nq:{alerts}:held:old", "msg_a", "msg_b")
    rig.outbox.set_down("desk", DOWN)
    rig.outbox.set_down("old", DOWN)
    rig.outbox.disable("old", "410 Gone")
    assert rig.outbox.drop_unknown(["desk"], NOW) == 0
    assert rig.redis.hlen(HELD) == 4
    assert not rig.redis.exists("nq:{alerts}:held:old")
    assert rig.outbox.troubled() == {"desk": "takes nothing: away", "old": "disabled: 410 Gone"}
    assert rig.outbox.drop_unknown(["another"], NOW) == 1
    assert not rig.redis.exists(HELD)
    assert [dead.id for dead in rig.outbox.dead()] == [digest.id]
    assert rig.outbox.troubled() == {"old": "disabled: 410 Gone"}


def test_what_is_gone_counts_no_more_among_the_alerts_that_fire(store: redis.Redis, alert: Alert) -> None:
    alerts = AlertStore(store)
    for number in range(3):
        alerts.put(msgspec.structs.replace(alert, id=f"{number:032x}", series=f"company=C{number}"))
    store.delete(f"nq:{{alerts}}:alert:{0:032x}")  # expired
    store.delete(f"nq:{{alerts}}:life:{1:032x}")
    store.set(f"nq:{{alerts}}:alert:{2:032x}", b"of another version")
    store.sadd(OPEN, b"\xff")
    alerts.forget_gone()
    assert store.smembers(OPEN) == {f"{number:032x}".encode() for number in (1, 2)}


def test_what_comes_back_at_that_moment_stays(
    store: redis.Redis, alert: Alert, monkeypatch: pytest.MonkeyPatch
) -> None:
    alerts, usual = AlertStore(store), AlertStore.check_lead
    alerts.put(alert)
    view = alerts.view(alert.id)
    assert view is not None
    store.delete(f"nq:{{alerts}}:alert:{alert.id}")

    def check(self: AlertStore) -> None:
        usual(self)
        assert alerts.restore(view)

    monkeypatch.setattr(AlertStore, "check_lead", check)
    alerts.forget_gone()
    assert store.smembers(OPEN) == {alert.id.encode()}


def test_who_leads_no_more_forgets_nothing(store: redis.Redis) -> None:
    store.sadd(OPEN, "a")
    store.set("nq:{alerts}:fence", "7")
    with pytest.raises(FencedError):
        AlertStore(store, lambda: "6").forget_gone()
    assert store.smembers(OPEN) == {b"a"}


def test_the_engine_looks_as_often_as_it_saves(store: redis.Redis, one_server: str) -> None:
    engine = AlertEngine(
        AlertsSettings(snapshot_s=1e-9),
        redis_url=one_server,
        documents_topic="documents",
        partitions=1,
        registry=CollectorRegistry(),
    )
    store.hset("nq:{documents-0}:progress", mapping={"offset": 1, "clock_ms": int(time.time() * 1_000)})
    store.sadd(OPEN, "a")
    for _ in range(3):
        engine.tick()
    engine.close()
    assert store.smembers(OPEN) == set()
