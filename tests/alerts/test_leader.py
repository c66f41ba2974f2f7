"""One leads: by a lock that runs out, and by tokens that keep a leader that slept from writing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import redis
from prometheus_client import CollectorRegistry

from alerts.alert import Alert, encode
from alerts.leader import LEADER, Leader
from alerts.metrics import AlertsMetrics
from alerts.store import FENCE, AlertStore, FencedError

WRITER = """
import sys, threading, time
import msgspec, redis
from prometheus_client import CollectorRegistry
from alerts.alert import decode
from alerts.leader import Leader
from alerts.metrics import AlertsMetrics
from alerts.store import AlertStore, FencedError

url, name, raw = sys.argv[1:]
leader = Leader(url, AlertsMetrics(CollectorRegistry()), ttl_s=0.6)
store = AlertStore(redis.Redis.from_url(url), leader.token)
while not leader.stand():
    time.sleep(0.02)
threading.Thread(target=leader.keep, args=(threading.Event(),), daemon=True).start()
number = 0
try:
    while True:  # it does not even ask whether it still leads
        number += 1
        store.put(msgspec.structs.replace(decode(raw.encode()), id=f"{name}-{number}", name=name))
except FencedError:
    sys.exit(7)
"""

PROCESS = """
import logging, signal, sys, threading
from prometheus_client import CollectorRegistry
from alerts.service import Alerting
from alerts.settings import AlertsSettings

logging.basicConfig(level=logging.INFO)
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
alerting = Alerting(
    AlertsSettings(poll_s=0.05, snapshot_s=0.1),
    redis_url=sys.argv[1], documents_topic="documents", partitions=1, registry=CollectorRegistry(), lead_s=1.0,
)
alerting.run(stop)
"""


def url_of(store: redis.Redis) -> str:
    pool = store.connection_pool.connection_kwargs
    return f"redis://{pool['host']}:{pool['port']}/0"


def until(true: Callable[[], object]) -> None:
    """Wait; pytest's timeout ends what never comes."""
    while not true():
        time.sleep(0.02)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[bytes], Path]]]:
    started = []

    def make(script: str, *args: str) -> tuple[subprocess.Popen[bytes], Path]:
        log = tmp_path / f"{len(started)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen([sys.executable, "-c", script, *args], stderr=out)
        started.append(process)
        return process, log

    yield make
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def leader(store: redis.Redis) -> Callable[..., Leader]:
    def make(**fields: float) -> Leader:
        return Leader(url_of(store), AlertsMetrics(CollectorRegistry()), **fields)

    return make


def test_one_leads_and_the_other_follows_when_it_gives_up(
    store: redis.Redis, leader: Callable[..., Leader], alert: Alert
) -> None:
    first, second = leader(), leader()
    assert first.stand()
    assert not second.stand()
    stop = threading.Event()
    stop.set()
    first.keep(stop)
    assert first.lost.is_set()
    assert second.stand()
    assert store.get(FENCE) == second.token().encode()
    with pytest.raises(FencedError):
        AlertStore(store, first.token).put(alert)
    with pytest.raises(FencedError):
        AlertStore(store, first.token).save_state(b"old")
    assert AlertStore(store, second.token).put(alert)
    assert AlertStore(store).load_state() is None
    assert [step.alert for step in AlertStore(store).log()] == [alert.id]


def test_people_need_no_token(store: redis.Redis, leader: Callable[..., Leader], alert: Alert) -> None:
    assert leader().stand()
    assert AlertStore(store).put(alert)


def test_a_lead_that_ran_out_is_a_new_one_with_a_new_token(store: redis.Redis, leader: Callable[..., Leader]) -> None:
    only = leader()
    assert only.stand()
    before = only.token()
    store.delete(LEADER)
    assert only.stand()
    assert only.token() != before


def test_an_emptied_server_gives_no_token_twice(store: redis.Redis, leader: Callable[..., Leader]) -> None:
    first, second = leader(), leader()
    assert first.stand()
    store.flushall()
    assert second.stand()
    assert first.token() != second.token()


def test_a_leader_whose_server_was_emptied_leads_no_more(store: redis.Redis, leader: Callable[..., Leader]) -> None:
    only = leader(ttl_s=0.3)
    assert only.stand()
    before = only.token()
    store.flushall()
    only.keep(threading.Event())
    assert only.lost.is_set()
    assert only.stand()
    assert only.token() != before


def test_a_leader_whose_server_is_away_for_too_long_leads_no_more(
    leader: Callable[..., Leader], monkeypatch: pytest.MonkeyPatch
) -> None:
    only = leader(ttl_s=0.3)
    assert only.stand()

    def away(*_: object, **__: object) -> None:
        raise redis.ConnectionError("away")

    monkeypatch.setattr(redis.connection.Connection, "send_packed_command", away)
    only.keep(threading.Event())
    assert only.lost.is_set()


def test_a_leader_whose_server_hangs_knows_when_its_lead_is_over(
    leader: Callable[..., Leader], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s, calls = [0.0], []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            now_s[0] += timeout or 0.0
            return False

    def hang(_: object, _ttl_s: float) -> str:
        calls.append(now_s[0])
        now_s[0] += 1.25
        raise redis.TimeoutError("no answer")

    only = leader(ttl_s=5.0, clock=lambda: now_s[0])
    assert only.stand()
    monkeypatch.setattr(Leader, "_call", hang)
    only.keep(Stop())
    assert only.lost.is_set()
    assert (calls, now_s) == ([1.0, 3.25], [5.0])


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
def test_another_takes_over_and_a_leader_that_wakes_writes_nothing(
    store: redis.Redis, start: Callable[..., tuple[subprocess.Popen[bytes], Path]], alert: Alert, signum: int
) -> None:
    raw = encode(msgspec.structs.replace(alert, stories=())).decode()

    def last_writer() -> str:
        steps = AlertStore(store).log(1)
        return steps[0].name if steps else ""

    def writes(name: str) -> Callable[[], bool]:
        return lambda: last_writer() == name

    process, _ = start(WRITER, url_of(store), "w0", raw)
    until(writes("w0"))
    for number in range(1, 4):
        name, old = f"w{number}", process
        process, _ = start(WRITER, url_of(store), name, raw)
        time.sleep(0.2)  # so that it stands by
        os.kill(old.pid, signum)
        until(writes(name))
        if signum == signal.SIGSTOP:
            os.kill(old.pid, signal.SIGCONT)
            assert old.wait() == 7
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    writers = [step.name for step in reversed(AlertStore(store).log(1_000_000))]
    turns = [name for at, name in enumerate(writers) if at == 0 or writers[at - 1] != name]
    assert turns == ["w0", "w1", "w2", "w3"]


def test_alerting_takes_over_from_a_killed_and_from_a_stopped_process(
    store: redis.Redis, start: Callable[..., tuple[subprocess.Popen[bytes], Path]]
) -> None:
    def says(log: Path, text: str) -> bool:
        return text in log.read_text("utf-8", "replace")

    first, first_log = start(PROCESS, url_of(store))
    until(lambda: says(first_log, "leads alerting now"))
    second, second_log = start(PROCESS, url_of(store))
    until(lambda: says(second_log, "standing by"))
    first.kill()
    until(lambda: says(second_log, "leads alerting now"))
    _, third_log = start(PROCESS, url_of(store))
    until(lambda: says(third_log, "standing by"))
    os.kill(second.pid, signal.SIGSTOP)
    until(lambda: says(third_log, "leads alerting now"))
    token = store.get(FENCE)
    os.kill(second.pid, signal.SIGCONT)
    until(lambda: says(second_log, "leads alerting no more"))
    until(lambda: second_log.read_text("utf-8").count("standing by") == 2)
    assert store.get(FENCE) == token
