"""Several messages are on their way to a receiver at once: what holds of one after the other holds of these too."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from prometheus_client import CollectorRegistry

from alerts.alert import Alert
from alerts.breaker import Lanes
from alerts.channels.channel import AT_ONCE
from alerts.delivery import Delivery
from alerts.metrics import AlertsMetrics
from alerts.outbox import Outbox
from alerts.sender import Sender
from tests.alerts.conftest import Hooks, Span
from tests.alerts.rig import NOW, Rig, changes, in_order, put, taken
from tests.alerts.test_channels import channel
from tests.alerts.test_replay import make

LIFE = ("alert.firing", "alert.escalated", "alert.acknowledged", "alert.resolved")


def alerts_in(body: bytes) -> dict[str, int]:
    """The alerts of which a message tells, and their revisions."""
    data = json.loads(body)["data"]
    return {each["id"]: each["revision"] for each in data.get("alerts", [data])}


def most_at_once(spans: list[Span]) -> int:
    edges = sorted([(span.began, 1) for span in spans] + [(span.ended, -1) for span in spans])
    return max(itertools.accumulate(step for _, step in edges))


def revisions(bodies: Iterable[bytes]) -> dict[str, list[int]]:
    """What each alert was told by, in its order, repeats left out."""
    found: dict[str, list[int]] = defaultdict(list)
    for body in bodies:
        for alert, revision in alerts_in(body).items():
            found[alert] += [revision] if revision not in found[alert] else []
    return found


def burst(rig: Rig, alert: Alert, count: int, first: int = 0) -> list[Alert]:
    """So many alerts fire at one moment."""
    made = [msgspec.structs.replace(alert, id=f"{first + number:032x}") for number in range(count)]
    for one in made:
        put(rig, "alert.firing", one)
    return made


def until(true: Callable[[], object], rig: Rig | None = None) -> None:
    """Wait, and let ten seconds pass in a hundredth by the clock of a rig; pytest's timeout ends what never comes."""
    while not true():
        if rig is not None:
            rig.now += 10
        time.sleep(0.01)


@contextlib.contextmanager
def at_work(rig: Rig) -> Iterator[threading.Event]:
    """Let the sender run until it is stopped, and has ended."""
    stop = threading.Event()
    rig.sender._poll_s = 0.01
    thread = threading.Thread(target=rig.sender.run, args=(stop,))
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def wide(rig: Rig, hooks: Hooks, alert: Alert) -> Rig:
    """A sender that has found that its receiver answers at once."""
    hooks.pause = lambda: 0.02
    burst(rig, alert, 120, first=10_000)
    rig.sender.step(120)
    assert most_at_once(hooks.spans) > 8
    hooks.requests.clear()
    hooks.spans.clear()
    rig.now += 60
    return rig


def lives(rig: Rig, alert: Alert, rng: random.Random) -> None:
    """Put the lives of 15 alerts into the outbox, mixed; some are told of together, and some wait for nothing."""
    last: dict[str, Delivery] = {}
    left = {f"{number:032x}": list(LIFE) for number in range(15)}
    for number in itertools.count(1):
        if not left:
            break
        make(rig, msgspec.structs.replace(alert, id="f" * 32, revision=number), event="alert.repeated")
        together = rng.sample(sorted(left), min(len(left), rng.choice((1, 1, 1, 4))))
        event: Any = left[together[0]][0]
        together = [each for each in together if left[each][0] == event]
        alerts = [msgspec.structs.replace(alert, id=each, revision=1 + LIFE.index(event)) for each in together]
        after = tuple({last[each].id for each in together if each in last})
        made = make(rig, *alerts, event=event, after=after)
        for each in together:
            last[each] = made
            left[each].pop(0)
            if not left[each]:
                del left[each]


@pytest.mark.parametrize("seed", range(3))
def test_an_alert_is_told_in_order_and_never_twice_at_once_whatever_fails_and_takes_its_time(
    rig: Rig, hooks: Hooks, alert: Alert, seed: int
) -> None:
    rng = random.Random(seed)
    hooks.pause = lambda: rng.random() * 0.03
    bad = 500, "reset", (429, {"Retry-After": "20"})
    hooks.answers = [204] * 20 + [rng.choice((204, 204, 204, 204, 204, *bad)) for _ in range(60)]
    lives(rig, alert, rng)
    with at_work(rig):
        until(lambda: not rig.outbox.waiting("desk")[0], rig)
    assert most_at_once(hooks.spans) > 1
    assert rig.outbox.dead_count() == 0

    by_alert: dict[str, list[Span]] = defaultdict(list)
    for span in hooks.spans:
        for told_of in alerts_in(span.body):
            by_alert[told_of].append(span)
    assert {most_at_once(spans) for spans in by_alert.values()} == {1}
    good = [span for span in sorted(hooks.spans) if span.answer == 204]
    assert len({span.id for span in good}) == len(good)
    told = revisions(span.body for span in good)
    repeats = sorted(told.pop("f" * 32))
    assert repeats == list(range(1, len(repeats) + 1))
    assert list(told.values()) == [[1, 2, 3, 4]] * 15


def test_a_burst_to_a_receiver_that_is_far_away_does_not_go_one_by_one(wide: Rig, hooks: Hooks, alert: Alert) -> None:
    hooks.pause = lambda: 0.2
    made = burst(wide, alert, 100)
    with at_work(wide):
        until(lambda: not wide.outbox.waiting("desk")[0])
    assert 8 < most_at_once(hooks.spans) <= AT_ONCE
    assert in_order(taken(hooks)) == {one.id: ["alert.firing"] for one in made}


def test_the_limit_a_minute_is_kept_to_and_its_digest_waits_for_all_that_is_on_its_way(
    store: redis.Redis, hooks: Hooks, secret: str, alert: Alert
) -> None:
    rig = Rig(store, hooks.url, secret, per_minute=20)
    hooks.pause = lambda: 0.03
    made = changes(alert, 80)
    for event, one in made:
        put(rig, event, one)
        rig.now += 0.001
    with at_work(rig):
        for minute in range(2):
            rig.now = NOW + 1 + 60 * minute
            until(lambda wanted=20 * minute + 20: len(hooks.spans) == wanted)
            time.sleep(0.1)
            assert len(hooks.requests) == 20 * minute + 20
            *singles, digest = hooks.spans[20 * minute :]
            assert json.loads(digest.body)["type"] == "group.digest"
            assert all(span.ended <= digest.began for span in singles)
            assert most_at_once(singles) > 1
    assert in_order(taken(hooks)) == in_order([(one.id, event) for event, one in made])


def test_a_receiver_that_asks_for_time_gets_no_more_than_is_on_its_way(wide: Rig, hooks: Hooks, alert: Alert) -> None:
    made = burst(wide, alert, 100)
    lanes = wide.sender._lanes.count
    hooks.answers = [(429, {"Retry-After": "90"}), *[(429, {"Retry-After": "5"})] * (lanes - 1)]
    with at_work(wide):
        until(lambda: len(hooks.spans) == lanes)
        began = wide.now
        while wide.now < began + 80:
            wide.now += 10
            time.sleep(0.02)
        assert len(hooks.requests) == lanes
        until(lambda: not wide.outbox.waiting("desk")[0], wide)
    del hooks.requests[:lanes]
    assert in_order(taken(hooks)) == {one.id: ["alert.firing"] for one in made}
    assert all(line.attempts == 1 for one in made for line in wide.outbox.told(one.id))


def test_a_receiver_that_went_down_is_found_out_about_by_one_at_a_time(wide: Rig, hooks: Hooks, alert: Alert) -> None:
    made = burst(wide, alert, 100)
    lanes = wide.sender._lanes.count
    hooks.usual = "reset"
    with at_work(wide):
        until(lambda: wide.outbox.down("desk"))
        assert lanes <= len(hooks.requests) <= lanes + 2  # what was on its way failed as one
        hooks.spans.clear()
        until(lambda: len(hooks.spans) == 4, wide)
        assert most_at_once(hooks.spans) == 1
        # What became of the fourth is written down after the receiver has answered.
        until(lambda: (down := wide.outbox.down("desk")) is not None and down.wait_s == 300)
        hooks.usual = 204
        hooks.requests.clear()
        until(lambda: not wide.outbox.waiting("desk")[0], wide)
    assert in_order(taken(hooks)) == {one.id: ["alert.firing"] for one in made}
    assert wide.outbox.down("desk") is None


def test_a_receiver_that_takes_few_at_once_is_not_taken_for_one_that_is_down(
    rig: Rig, hooks: Hooks, alert: Alert, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, most, downs = [0], 3, list[str]()
    monkeypatch.setattr(Outbox, "set_down", lambda _, name, down: downs.append(name) if down else None)

    def pause() -> float:
        inside[0] += 1
        if inside[0] > most:
            hooks.answers.insert(0, "reset")
        time.sleep(0.02)
        inside[0] -= 1
        return 0.0

    hooks.pause = pause
    made = burst(rig, alert, 150)
    with at_work(rig):
        until(lambda: not rig.outbox.waiting("desk")[0], rig)
    assert most_at_once(hooks.spans) > most
    assert downs == []
    assert rig.outbox.dead_count() == 0
    assert set(revisions(body for _, body in hooks.requests)) == {one.id for one in made}


@pytest.mark.parametrize("alone_s", [0.01, 0.3, 1.0, 1.9, 4.0, 10.0])
def test_who_takes_one_after_the_other_answers_each_in_time(alone_s: float) -> None:
    lanes, longest_s = Lanes(32), 0.0
    for now_s in range(1_000):
        after_s = lanes.count * alone_s  # all are in use, and this one comes last
        longest_s = max(longest_s, after_s)
        lanes.answered(now_s, after_s, well=True, all_used=True)
    assert longest_s <= max(5.0, alone_s)


def test_lanes_that_are_not_needed_are_not_opened() -> None:
    lanes = Lanes(32)
    for now_s in range(100):
        lanes.answered(now_s, 0.1, well=True, all_used=lanes.count == 1)
    assert lanes.count == 2


def test_a_bad_answer_closes_lanes_for_a_while() -> None:
    lanes = Lanes(32)
    for now_s in (0.0, 599.0, 700.0):
        for _ in range(40):
            lanes.answered(now_s, 0.1, well=True, all_used=True)
        assert lanes.count == (16 if now_s == 599 else 32)
        if not now_s:
            lanes.answered(0.0, 0.1, well=False, all_used=True)
            lanes.answered(0.0, 0.1, well=False, all_used=True)
            assert lanes.count == 1


def test_chat_and_mail_get_one_after_the_other(store: redis.Redis, hooks: Hooks, alert: Alert) -> None:
    outbox, pause = Outbox(store), threading.Event()
    hooks.usual, hooks.body = 200, b"ok"
    hooks.pause = lambda: float(pause.wait(0.01))
    slack = channel("slack", hooks.url, name="desk", per_minute=600)
    sender = Sender(slack, outbox, AlertsMetrics(CollectorRegistry()), lambda: NOW)
    rig = Rig(store, hooks.url, "whsec_" + "A" * 32)
    burst(rig, alert, 30)
    sender.step(30)
    assert (len(hooks.requests), most_at_once(hooks.spans)) == (30, 1)
    assert channel("email").at_once == 1


def test_what_redis_fails_on_is_repeated_and_the_rest_on_its_way_is_not(
    wide: Rig, hooks: Hooks, alert: Alert, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = burst(wide, alert, 40)
    real, failures = Outbox.done, iter([True, False, True])

    def flaky(self: Outbox, *args: Any) -> Any:
        if next(failures, False):
            raise redis.ConnectionError("gone")
        return real(self, *args)

    monkeypatch.setattr(Outbox, "done", flaky)
    with pytest.raises(redis.ConnectionError):
        wide.sender.step(1_000)
    assert wide.outbox.waiting("desk")[0] == len(made) - len(hooks.requests) + 2
    while wide.sender.step():
        pass
    ids = [headers["webhook-id"] for headers, _ in hooks.requests]
    assert (len(ids), len(set(ids))) == (len(made) + 2, len(made))


def test_a_sender_that_is_to_end_begins_nothing_and_settles_what_is_on_its_way(
    wide: Rig, hooks: Hooks, alert: Alert
) -> None:
    burst(wide, alert, 100)
    hooks.pause = lambda: float(not hooks.release.wait(10))
    lanes = wide.sender._lanes.count
    with at_work(wide) as stop:
        until(lambda: len(hooks.requests) == lanes)
        stop.set()
        hooks.release.set()
    assert len(hooks.requests) == lanes
    assert wide.outbox.waiting("desk")[0] == 100 - lanes


KILLED = """
import sys, threading, time
import redis
from tests.alerts.rig import Rig

rig = Rig(redis.Redis.from_url(sys.argv[1]), sys.argv[2], sys.argv[3])
rig.sender._clock = time.time
rig.sender.run(threading.Event())
"""


def test_a_process_killed_in_the_middle_repeats_at_most_what_was_on_its_way(
    store: redis.Redis, one_server: str, hooks: Hooks, secret: str, rig: Rig, alert: Alert
) -> None:
    rng = random.Random(1)
    hooks.pause = lambda: 0.05
    lives(rig, alert, rng)
    burst(rig, alert, 100, first=1_000)
    for _ in range(3):
        command = [sys.executable, "-c", KILLED, one_server, hooks.url, secret]
        process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
        had = len(hooks.requests)
        until(lambda had=had: len(hooks.requests) > had + 25)
        process.kill()
        process.wait()
    time.sleep(0.1)  # the receiver goes on for as long
    repeats = len(hooks.requests)
    rig.sender._clock = time.time
    with at_work(rig):
        until(lambda: not store.exists("nq:{alerts}:due:desk"))
    ids = [headers["webhook-id"] for headers, _ in hooks.requests]
    assert repeats > 75
    assert 0 < len(ids) - len(set(ids)) <= 3 * AT_ONCE
    told = revisions(body for _, body in hooks.requests)
    assert [told[f"{number:032x}"] for number in range(15)] == [[1, 2, 3, 4]] * 15
    assert len(told) == 15 + 1 + 100
