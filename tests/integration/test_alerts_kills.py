"""Alerting killed at any moment, and Redis with it: each transition once, and told, as if nothing had happened.

`NEWSQUAKE_TEST_KILLS=50` makes it the long form: so many kills, with 500 alerts.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis

from alerts.actions import ActionError, Actions
from alerts.delivery import due_key
from alerts.life import SYSTEM, Transition
from alerts.store import LOG, STATE, AlertStore
from alerts.told_book import CURSOR
from deploy.local.servers import LocalValkey
from tests.soak import scripted_alerting
from tests.soak.scripted_alerting import FIRST, MINUTES

KILLS = int(os.environ.get("NEWSQUAKE_TEST_KILLS", "8"))
ALERTS = 500 if KILLS >= 50 else 60
TOLD_AS = {each: f"alert.{each}" for each in ("firing", "escalated", "acknowledged", "resolved")}
TOLD_AS["reopened"] = "alert.firing"


class Hook(BaseHTTPRequestHandler):
    """Takes everything."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((self.headers["webhook-id"], json.loads(body)))  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.got = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


class Stage:
    """Processes that may be killed, the clock of their items, and people: one acknowledges, one makes mistakes."""

    def __init__(self, valkey: LocalValkey, hook: ThreadingHTTPServer) -> None:
        receiver = {
            "type": "webhook", "name": "desk", "url": f"http://127.0.0.1:{hook.server_port}/",
            "secrets": ["whsec_" + "A" * 32], "allow_networks": ["127.0.0.0/8"], "per_minute": 10_000,
        }  # fmt: skip
        settings = {
            "clock": "event", "poll_s": 0.02, "snapshot_s": 0.3, "grace_s": 0, "themes": {"on": False},
            "receivers": [receiver],
        }  # fmt: skip
        program = Path(scripted_alerting.__file__)
        command = [sys.executable, str(program), valkey.url, json.dumps(settings), str(ALERTS)]
        env = {**os.environ, "PYTHONPATH": str(program.parents[2])}
        self._maker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        self._valkey = valkey
        self.redis = redis.Redis.from_url(valkey.url)
        self.store, self.actions = AlertStore(self.redis), Actions(self.redis)
        self.pids: list[int] = []
        self.acknowledged: dict[str, str] = {}
        self.mistaken: dict[str, str] = {}
        self.resolved: list[int] = []

    def add(self) -> None:
        assert self._maker.stdin is not None
        assert self._maker.stdout is not None
        self._maker.stdin.write("\n")
        self._maker.stdin.flush()
        self.pids.append(int(self._maker.stdout.readline()))

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        self.pids.remove(pid)

    def close(self) -> None:
        for pid in list(self.pids):
            self.kill(pid)
        self._maker.kill()
        self._maker.wait()
        for pipe in (self._maker.stdin, self._maker.stdout):
            assert pipe is not None
            pipe.close()
        self.redis.close()

    def again(self, act: Callable[[], object]) -> None:
        """Do something as soon as Redis answers."""
        while True:
            try:
                act()
                return
            except redis.RedisError:
                time.sleep(0.05)

    def clock(self, minutes: float) -> None:
        """It is so many minutes after the script began."""
        progress = {"offset": 1, "clock_ms": int((FIRST + minutes) * 60_000)}
        self.again(lambda: self.redis.hset("nq:{documents-0}:progress", mapping=progress))

    def acknowledge(self, number: int) -> None:
        alert, key = f"{number:032d}", f"click-{number}"

        def act() -> None:
            with contextlib.suppress(ActionError):  # not open yet, or no more
                self.acknowledged[self.actions.acknowledge(alert, "anna", key=key).key] = alert

        self.again(act)

    def mistake(self, number: int) -> None:
        """Somebody resolves an alert, and reopens it at once."""
        for act in (self.actions.resolve, self.actions.reopen):
            self.by_hand(act, number, "mistake")

    def resolve(self, number: int) -> None:
        """Somebody resolves an alert, and finds out after its surge that it was the wrong one."""
        self.by_hand(self.actions.resolve, number, "late")
        self.resolved.append(number)

    def by_hand(self, act: Callable[..., Transition], number: int, why: str) -> None:
        alert = f"{number:032d}"

        def once() -> None:
            with contextlib.suppress(ActionError):  # it is not open, or has grown meanwhile
                self.mistaken[act(alert, "ben", key=f"{why}-{act.__name__}-{number}").key] = alert

        self.again(once)

    def begin(self) -> None:
        """Let a process find the script before its first minute."""
        self.clock(0)
        while not self.redis.exists(STATE):
            time.sleep(0.02)

    def is_dispatched(self) -> bool:
        last: Any = self.redis.xrevrange(LOG, count=1)
        return bool(self.redis.get(CURSOR) == last[0][0])

    def finish(self, told: Callable[[], int]) -> list[Transition]:
        """Let the script end, what was reopened after it, and everything be told; return the log."""
        self.clock(MINUTES + 2)
        done: set[str] = set()
        while len(done) < ALERTS or told() < ALERTS:
            time.sleep(0.1)
            done = {step.alert for step in self.store.log(100_000) if step.event == "resolved"}
        for number in self.resolved:
            self.by_hand(self.actions.reopen, number, "late")
        self.clock(2 * MINUTES + 10)
        while self.store.lives() or not self.is_dispatched() or self.redis.exists(due_key("desk")):
            time.sleep(0.1)
        return list(reversed(self.store.log(100_000)))


@pytest.fixture
def stage(make_valkey: Callable[[], LocalValkey], hook: ThreadingHTTPServer) -> Iterator[Callable[[], Stage]]:
    made: list[Stage] = []

    def make() -> Stage:
        valkey = make_valkey()
        valkey.start()
        made.append(Stage(valkey, hook))
        made[-1].valkey = valkey  # type: ignore[attr-defined]
        return made[-1]

    yield make
    for each in made:
        each.close()


def by_time_alone(log: list[Transition]) -> list[str]:
    """Return what ended because it was reopened after its surge, and time went on."""
    return [step.alert for step in log if step.event == "resolved" and "it was reopened 1:00:00 ago" in step.reason]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("redis_dies", [False, True])
def test_each_transition_once_and_told_whatever_dies(
    stage: Callable[[], Stage], hook: ThreadingHTTPServer, redis_dies: bool
) -> None:
    got = hook.got  # type: ignore[attr-defined]

    def ends_told() -> int:
        return len({body["data"]["id"] for _, body in list(got) if body["type"] == "alert.resolved"})

    calm = stage()
    calm.add()
    calm.begin()
    expected = calm.finish(ends_told)
    calm.close()
    assert {step.event for step in expected} == {"firing", "moved", "escalated", "resolved"}
    got.clear()

    rng = random.Random(5)
    wild = stage()
    wild.add()
    wild.add()
    wild.begin()
    for kill in range(KILLS):
        wild.clock((kill + 1) * MINUTES / (KILLS + 1))
        wild.acknowledge(rng.randrange(ALERTS))
        wild.mistake(rng.randrange(ALERTS))
        if kill == KILLS // 2:
            wild.resolve(10)  # which neither grows nor moves
        time.sleep(rng.uniform(0.05, 1.0))
        wild.kill(rng.choice(wild.pids))
        wild.add()
        if redis_dies and kill % 4 == 0:
            wild.valkey.kill()  # type: ignore[attr-defined]
            wild.valkey.start()  # type: ignore[attr-defined]
    log = wild.finish(ends_told)

    assert len({step.key for step in log}) == len(log)
    mistaken = set(wild.mistaken.values())
    assert mistaken
    assert by_time_alone(log) == [f"{10:032d}"]

    def script(steps: list[Transition]) -> set[tuple[str, str, str]]:
        of_system = [step for step in steps if step.actor == SYSTEM and step.alert not in mistaken]
        return {(step.key, step.event, step.severity) for step in of_system}

    assert script(log) == script(expected)
    assert {step.key: step.alert for step in log if step.actor == "anna"} == wild.acknowledged
    assert {step.key: step.alert for step in log if step.actor == "ben"} == wild.mistaken
    by_alert: dict[str, list[Transition]] = defaultdict(list)
    for step in log:
        by_alert[step.alert].append(step)
    for alert, steps in by_alert.items():
        view = wild.store.view(alert)
        assert view is not None
        assert list(view.transitions) == steps
        assert (view.life.state, view.life.transitions) == ("resolved", len(steps))
    assert wild.redis.xlen(LOG) == len(log)

    told: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for id_, body in got:
        entry = (body["type"], id_)
        if entry not in told[body["data"]["id"]]:
            told[body["data"]["id"]].append(entry)
    assert told.keys() == by_alert.keys()
    for alert, entries in told.items():
        events = [event for event, _ in entries]
        assert events == [TOLD_AS[step.event] for step in by_alert[alert] if step.event != "moved"]
        assert events[-1] == "alert.resolved"
