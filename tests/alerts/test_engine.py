"""The engine from windows to outbox: sealed minutes only, one alert an episode, nothing lost or doubled by crashes."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest
import redis
import redis.asyncio
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from alerts.alert import Alert
from alerts.buckets import Buckets
from alerts.dispatch import Dispatcher
from alerts.engine import AlertEngine
from alerts.metrics import AlertsMetrics
from alerts.outbox import Outbox
from alerts.receivers import WebhookReceiver
from alerts.rules import Rules
from alerts.service import Alerting
from alerts.settings import AlertsSettings, SurgeSettings, ThemesSettings
from alerts.store import AlertStore
from alerts.windows import WindowItem, Windows

TOPIC, PARTITIONS = "documents", 2
DAY_S = 86_400
START = 1_678_060_800.0  # 2023-03-06 00:00 UTC
WALL = START + 400 * DAY_S
Make = Callable[..., WindowItem]


def _url(store: redis.Redis) -> str:
    pool = store.connection_pool.connection_kwargs
    return f"redis://{pool['host']}:{pool['port']}/0"


def _hook(secret: str) -> WebhookReceiver:
    return WebhookReceiver(name="desk", url=SecretStr("http://127.0.0.1:1/"), secrets=(SecretStr(secret),))


def _engine(store: redis.Redis, secret: str, **fields: Any) -> AlertEngine:
    clock = fields.pop("now", lambda: WALL)
    explainer = fields.pop("explainer", None)
    settings = AlertsSettings(**{"clock": "event", "snapshot_s": 1e-9, "receivers": (_hook(secret),), **fields})
    return AlertEngine(
        settings,
        redis_url=_url(store),
        documents_topic=TOPIC,
        partitions=PARTITIONS,
        registry=CollectorRegistry(),
        explainer=explainer,
        clock=clock,
    )


def _finish(engine: AlertEngine) -> AlertEngine:
    while engine.tick():
        pass
    return engine


def _write(store: redis.Redis, items: Iterable[WindowItem], idle_ms: int | None = int(WALL * 1000) + 10_000) -> None:
    async def write() -> None:
        async with redis.asyncio.Redis.from_url(_url(store)) as client:
            windows = Windows(client)
            batches: list[list[WindowItem]] = [[] for _ in range(PARTITIONS)]
            for made in items:
                batches[made.offset % PARTITIONS].append(made)
            for partition, batch in enumerate(batches):
                for at in range(0, len(batch), 500):
                    part = batch[at : at + 500]
                    await windows.add(TOPIC, partition, part, part[-1].offset)
                if idle_ms is not None:
                    await windows.idle(TOPIC, partition, idle_ms)

    asyncio.run(write())


def _history(item: Make, hours: float, surges: tuple[float, ...] = ()) -> list[WindowItem]:
    """A quiet item each two minutes, and at the hours of `surges` 25 minutes of bad news about a bank."""
    rng = random.Random(7)
    found = []
    for minute in range(int(hours * 60)):
        at = START + minute * 60 + rng.random() * 50
        if minute % 2 == 0:
            label = "negative" if rng.random() < 0.2 else "neutral"
            company, topic = f"C{rng.randrange(8)}", rng.choice(["Earnings", "Liquidity"])
            found.append({"companies": (company,), "sentiment": label, "topic": topic, "seen_at": at})
        for surge in surges:
            if 0 <= minute - surge * 60 < 25:
                fields = {"companies": ("SIVB",), "topic": "Liquidity", "seen_at": at + 1}
                found.append({**fields, "publisher": f"Daily {rng.randrange(4)}"})
    return [item(offset, **fields) for offset, fields in enumerate(found)]


def _outcome(store: redis.Redis, secret: str) -> tuple[Any, Any, Any]:
    """All that others see: transitions, stored alerts and deliveries."""
    alerts = AlertStore(store)
    log = [(line.alert, line.revision, line.event, line.at, line.summary) for line in alerts.log()]
    stored = {line[0]: alerts.get(line[0]) for line in log}
    rules = Rules(AlertsSettings(receivers=(_hook(secret),)))
    dispatcher = Dispatcher(store, lambda: rules, AlertsMetrics(CollectorRegistry()))
    while dispatcher.step(WALL, WALL):
        pass
    outbox, waiting = Outbox(store), []
    while due := outbox.due("desk", 1e12):
        waiting.append((due[0].id, due[0].event, due[0].body, due[0].after))
        outbox.done(due[0], 1e12)
    return log, stored, sorted(waiting)


def _turns(store: redis.Redis) -> list[str]:
    """The beginnings and ends in the log; what an alert went through between them is not asked."""
    return [line.event for line in reversed(AlertStore(store).log()) if line.event in ("firing", "resolved")]


def test_one_alert_an_episode_with_its_evidence(store: redis.Redis, item: Make, secret: str) -> None:
    _write(store, _history(item, 44, surges=(30, 40)))
    engine = _finish(_engine(store, secret))
    _, stored, deliveries = _outcome(store, secret)
    assert _turns(store) == ["firing", "resolved"] * 2
    assert [event for _, event, _, _ in deliveries].count("alert.firing") == 2
    for alert in stored.values():
        related = {"company=SIVB", "topic=Liquidity", "company=SIVB;topic=Liquidity", "market"}
        assert {alert.series, *(also.series for also in alert.also)} <= related
        assert alert.publishers >= 2
        assert len({s.publisher for s in alert.stories[: alert.publishers]}) == alert.publishers
        assert sum("SIVB" in story.companies for story in alert.stories) > len(alert.stories) / 2
        assert alert.figures.observed > alert.figures.high
        assert alert.peak.z > alert.figures.z
        assert alert.started_at < alert.resolved_at
    assert AlertStore(store).open() == []
    assert engine.waiting == []


def test_two_companies_in_trouble_are_two_alerts(store: redis.Redis, item: Make, secret: str) -> None:
    items = _history(item, 36, surges=(30,))
    rng = random.Random(3)
    for minute in range(25):  # the second bank follows while the first alert is open
        at = START + 30.6 * 3600 + minute * 60
        news = item(0, companies=("XYZ",), topic="Earnings", seen_at=at, publisher=f"Daily {rng.randrange(4)}")
        items.append(news)
    items.sort(key=lambda made: made.seen_at)
    fields = ("companies", "sentiment", "topic", "seen_at", "publisher")
    _write(store, [item(n, **{name: getattr(made, name) for name in fields}) for n, made in enumerate(items)])
    _finish(_engine(store, secret))
    opened = [line for line in AlertStore(store).log() if line.event == "firing"]
    found = [AlertStore(store).get(line.alert) for line in opened]
    about = [{a.series, *(also.series for also in a.also)} & {"company=SIVB", "company=XYZ"} for a in found if a]
    assert sorted(about, key=sorted) == [{"company=SIVB"}, {"company=XYZ"}]
    assert all("SIVB" in line.summary or "XYZ" in line.summary for line in opened)


def test_one_publisher_alone_raises_nothing(store: redis.Redis, item: Make, secret: str) -> None:
    fields = ("companies", "sentiment", "topic", "seen_at")
    items = _history(item, 34, surges=(30,))
    plain = [item(n, publisher="Daily", **{f: getattr(made, f) for f in fields}) for n, made in enumerate(items)]
    _write(store, plain)
    _finish(_engine(store, secret))
    assert AlertStore(store).log() == []


def test_a_flood_that_fills_the_lists_hides_no_surge(store: redis.Redis, item: Make, secret: str) -> None:
    fields = ("companies", "sentiment", "topic", "seen_at", "publisher")
    items = [{name: getattr(made, name) for name in fields} for made in _history(item, 31, surges=(30,))]
    calm = [made for made in items if made["seen_at"] < START + 30 * 3600]
    for made in items[len(calm) :]:  # before each item, one publisher fills the lists of the minute and partition
        spam = {**made, "companies": ("SPAM",), "topic": "Spam", "sentiment": "negative", "publisher": "Spam Daily"}
        calm += [spam] * 210 + [made]
    _write(store, [item(offset, **made) for offset, made in enumerate(calm)])
    _finish(_engine(store, secret))
    found = [AlertStore(store).get(line.alert) for line in AlertStore(store).log() if line.event == "firing"]
    about = {series: alert for alert in found if alert for series in (alert.series, *(a.series for a in alert.also))}
    assert "company=SIVB" in about
    assert all(alert.unlisted > 0 for alert in about.values())
    assert all("items listed" in alert.summary for alert in about.values())


def test_a_first_poll_of_old_items_raises_nothing(store: redis.Redis, item: Make, secret: str) -> None:
    quiet = _history(item, 40)
    at = START + 30 * 3600
    poll = [{"seen_at": at, "published_at": at - 6.1 * 3600 - n, "companies": ("SIVB",)} for n in range(500)]
    before = [made for made in quiet if made.seen_at < at]
    after = [made for made in quiet if made.seen_at >= at]
    fields = [("", made) for made in before] + [(str(n), None) for n in range(500)] + [("", made) for made in after]
    items = []
    for offset, (number, made) in enumerate(fields):
        if made is None:
            items.append(item(offset, **poll[int(number)]))
        else:
            items.append(item(offset, **{f: getattr(made, f) for f in ("companies", "sentiment", "topic", "seen_at")}))
    _write(store, items)
    _finish(_engine(store, secret))
    assert AlertStore(store).log() == []


class _Killed(BaseException):
    """The process is gone: nothing in it goes on."""


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("fault", [_Killed, redis.ConnectionError])
def test_crashes_at_any_command_lose_and_double_nothing(
    store: redis.Redis, item: Make, secret: str, fault: type[BaseException], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = _history(item, 36, surges=(30,))
    _write(store, items)
    _finish(_engine(store, secret))
    expected = _outcome(store, secret)
    assert {"alert.firing", "alert.resolved"} <= {delivery[1] for delivery in expected[2]}

    store.flushall()
    _write(store, items)
    rng = random.Random(seed)
    left = [rng.randrange(1, 40)]
    real = redis.connection.Connection.send_packed_command

    def send(self: Any, command: Any, *args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and rng.random() < 0.5:
            raise fault("before the command")
        answer = real(self, command, *args, **kwargs)
        if left[0] <= 0:  # the command runs, its answer is never read
            left[0] = 0
            self.disconnect()
            raise fault("after the command")
        return answer

    kills = 0
    engine = _engine(store, secret)
    with monkeypatch.context() as patch:
        patch.setattr("alerts.engine._LOOK_S", 0.0)  # an hour a tick, however fast the machine is
        patch.setattr(redis.connection.Connection, "send_packed_command", send)
        while True:
            try:
                _finish(engine)
                break
            except fault:
                kills += 1
                left[0] = rng.randrange(25, 90)  # enough for a tick, or it would never end
                if fault is _Killed:
                    engine = _engine(store, secret)
    assert kills > 2
    assert _outcome(store, secret) == expected


def test_a_crash_before_the_first_snapshot_begins_at_the_beginning(
    store: redis.Redis, item: Make, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(store, _history(item, 36, surges=(30,)))
    engine = _engine(store, secret, snapshot_s=1e9)
    with monkeypatch.context() as patch:
        patch.setattr(AlertStore, "put", lambda *_, **__: (_ for _ in ()).throw(_Killed()))
        with pytest.raises(_Killed):
            _finish(engine)
    assert AlertStore(store).log() == []
    _finish(_engine(store, secret))
    assert _turns(store) == ["firing", "resolved"]


def test_what_is_not_sealed_is_not_judged(store: redis.Redis, item: Make, secret: str) -> None:
    _write(store, _history(item, 2), idle_ms=None)
    engine = _engine(store, secret)
    _finish(engine)
    sealed = Buckets(store, TOPIC, PARTITIONS).progress()[0].sealed
    clocks = [p.clock_ms for p in Buckets(store, TOPIC, PARTITIONS).progress()]
    assert sealed is not None
    assert (sealed + 1) * 60_000 <= min(c for c in clocks if c is not None)


@pytest.mark.parametrize("clock", ["wall", "event"])
def test_a_partition_nobody_reads_holds_time_back_and_is_named(
    store: redis.Redis, item: Make, secret: str, clock: str
) -> None:
    items = [made for made in _history(item, 2) if made.offset % 2 == 0]
    _write(store, items, idle_ms=None)
    store.hset("nq:{documents-0}:progress", "idle_at_ms", int((WALL + 10) * 1000))
    engine = _finish(_engine(store, secret, clock=clock))
    assert Buckets(store, TOPIC, PARTITIONS).progress()[0].sealed is None
    assert engine.waiting


def test_a_rebuild_holds_alerting_back(store: redis.Redis, item: Make, secret: str) -> None:
    _write(store, _history(item, 2))
    store.hset("nq:{documents-1}:progress", "rebuilding", 1)
    engine = _finish(_engine(store, secret))
    assert engine.waiting == ["partition 1: its windows are being rebuilt"]
    store.hdel("nq:{documents-1}:progress", "rebuilding")
    assert _finish(engine).waiting == []
    assert Buckets(store, TOPIC, PARTITIONS).progress()[0].sealed is not None


def test_the_wall_clock_seals_what_idle_workers_have_read(store: redis.Redis, item: Make, secret: str) -> None:
    now = START + 2 * 3600
    _write(store, _history(item, 1.9), idle_ms=int((now - 1) * 1000))
    engine = _finish(_engine(store, secret, clock="wall", grace_s=15, now=lambda: now))
    assert Buckets(store, TOPIC, PARTITIONS).progress()[1].sealed == (now - 16) // 60 - 1
    assert engine.waiting == []


def test_a_clock_that_stood_ahead_is_told_of(store: redis.Redis, item: Make, secret: str) -> None:
    now = START + 2 * 3600
    _write(store, _history(item, 1.9), idle_ms=int((now + 3600) * 1000))
    _finish(_engine(store, secret, clock="wall", now=lambda: now + 3600))
    engine = _engine(store, secret, clock="wall", now=lambda: now)
    assert not engine.tick()
    assert engine.waiting == ["the clock stood 60 minutes ahead: nothing is judged until it is there again"]
    assert engine.metrics.behind_seconds._value.get() == 3600
    engine = _engine(store, secret, clock="wall", now=lambda: now + 3600)
    engine.tick()
    assert engine.waiting == []


def test_a_clock_from_the_future_does_not_stand_for_what_was_read(store: redis.Redis, item: Make, secret: str) -> None:
    now = START + 2 * 3600
    _write(store, _history(item, 1.5), idle_ms=int((now - 1800) * 1000))
    store.hset("nq:{documents-1}:progress", "clock_ms", int((now + 3000) * 1000))
    engine = _finish(_engine(store, secret, clock="wall", now=lambda: now))
    assert Buckets(store, TOPIC, PARTITIONS).progress()[1].sealed * 60 < now - 1800
    assert "partition 1" in str(engine.waiting)


def test_an_item_from_the_future_does_not_end_time(store: redis.Redis, item: Make, secret: str) -> None:
    items = _history(item, 2)
    _write(store, [*items, item(len(items), seen_at=2.5e11), item(len(items) + 1, seen_at=2.5e11)])
    _finish(_engine(store, secret))
    sealed = Buckets(store, TOPIC, PARTITIONS).progress()[0].sealed
    assert sealed is not None
    assert sealed * 60 < WALL


def test_months_without_items_are_skipped(store: redis.Redis, item: Make, secret: str) -> None:
    early = _history(item, 30)
    later = [item(len(early) + n, seen_at=START + 200 * DAY_S + n * 60) for n in range(4)]
    _write(store, [*early, *later])
    engine = _engine(store, secret)
    ticks = 1
    while engine.tick():
        ticks += 1
    assert ticks < 100  # 288,000 minutes would be 4,800
    assert engine.waiting == []


@pytest.mark.parametrize("themes", [True, False])
def test_minutes_without_negative_items_that_are_judged_together_come_to_what_each_does(
    store: redis.Redis, item: Make, secret: str, themes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = _history(item, 34, surges=(30,))
    for after_min in (4_000, 4_007, 4_600, 9_030, 9_033, 9_100):  # shorter and longer than what is skipped
        at = START + 34 * 3600 + after_min * 60
        items.append(item(len(items), seen_at=at, sentiment="neutral", companies=(f"N{after_min}",)))
    found = []
    for together in (True, False):
        store.flushall()
        _write(store, items)
        engine = _engine(store, secret, themes=ThemesSettings(on=themes))
        with monkeypatch.context() as patch:
            if not together:
                patch.setattr("alerts.engine.is_calm", lambda counts: False)
            _finish(engine)
        found.append((store.get("nq:{alerts}:state"), _outcome(store, secret), engine.metrics.minutes._value.get()))
    assert found[0] == found[1]
    assert "alert.resolved" in {delivery[1] for delivery in found[0][1][2]}


def test_a_lost_snapshot_alerts_nobody_of_the_past(store: redis.Redis, item: Make, secret: str) -> None:
    _write(store, _history(item, 44, surges=(30, 43.7)))
    _finish(_engine(store, secret))
    before = AlertStore(store)
    lines, firing = len(before.log()), [alert.series for alert in before.open()]
    assert len(firing) == 1
    store.set("nq:{alerts}:state", b"damaged")
    _finish(_engine(store, secret))
    assert [alert.series for alert in AlertStore(store).open()] == firing
    assert len(AlertStore(store).log()) == lines


@pytest.mark.parametrize("crash_after", [None, 1, 50, 99])
def test_a_wiped_redis_tells_nobody_of_the_past_again(
    store: redis.Redis, item: Make, secret: str, crash_after: int | None
) -> None:
    now = START + 100 * 3600
    items = _history(item, 100, surges=(30, 50, 99.4))

    def engine() -> AlertEngine:
        return _engine(store, secret, clock="wall", now=lambda: now)

    _write(store, items, idle_ms=int(now * 1000))
    _finish(engine())
    open_before = AlertStore(store).open()
    assert len(open_before) == 1

    store.flushall()
    wiped = engine()
    assert not wiped.tick()  # nothing is there yet
    _write(store, items, idle_ms=int(now * 1000))
    store.hset("nq:{documents-1}:progress", "rebuilding", 1)
    assert not wiped.tick()
    store.hdel("nq:{documents-1}:progress", "rebuilding")
    for _ in range(crash_after or 0):
        wiped.tick()
    _finish(engine() if crash_after else wiped)
    log, stored, deliveries = _outcome(store, secret)
    fired = [stored[line[0]].series for line in log if line[2] == "firing"]
    assert fired == [open_before[0].series]
    assert [event for _, event, _, _ in deliveries].count("alert.firing") == 1


def test_what_opens_after_the_past_was_learnt_is_told_even_when_the_engine_dies(
    store: redis.Redis, item: Make, secret: str
) -> None:
    first, later = START + 100 * 3600, START + 102 * 3600
    items = _history(item, 102, surges=(30, 100.2))
    known = [made for made in items if made.seen_at < first]
    _write(store, known, idle_ms=int(first * 1000))
    _finish(_engine(store, secret, clock="wall", now=lambda: first))
    assert AlertStore(store).log() == []
    _write(store, items[len(known) :], idle_ms=int(later * 1000))
    for _ in range(4):  # each is as one that died before
        _engine(store, secret, clock="wall", snapshot_s=1e9, now=lambda: later).tick()
    _finish(_engine(store, secret, clock="wall", now=lambda: later))
    assert _turns(store) == ["firing"]


def test_changed_settings_close_what_they_would_not_have_opened(store: redis.Redis, item: Make, secret: str) -> None:
    _write(store, _history(item, 44, surges=(43.7,)))
    _finish(_engine(store, secret))
    assert len(AlertStore(store).open()) == 1
    store.delete("nq:{alerts}:state")
    _finish(_engine(store, secret, surge=SurgeSettings(minimum_count=500)))
    assert AlertStore(store).open() == []
    assert "not known any more" in AlertStore(store).log(1)[0].summary


def test_an_alert_that_was_learnt_of_another_series_goes_on_with_that_series(
    store: redis.Redis, item: Make, secret: str
) -> None:
    made = _history(item, 50, surges=(43.7,))
    known = [each for each in made if each.seen_at < START + 44 * 3600]
    _write(store, known)
    _finish(_engine(store, secret))
    alerts = AlertStore(store)
    (alert,) = alerts.open()
    # Another history led there: the alert's series is none of those that its episode is about.
    other = msgspec.structs.replace(alert, revision=alert.revision + 3, series="company=C1", name="C1")
    alerts.put(other)
    store.delete("nq:{alerts}:state")
    _finish(_engine(store, secret))
    (found,) = alerts.open()
    assert (found.id, found.series, found.name) == (alert.id, alert.series, alert.name)
    assert (found.began_on, found.started_at) == ("company=C1", alert.started_at)
    assert alerts.log(1)[0].event == "moved"
    _write(store, made[len(known) :])
    _finish(_engine(store, secret))
    assert alerts.open() == []
    assert _turns(store) == ["firing", "resolved"]


def test_what_cannot_be_judged_is_told_of_and_keeps_nobody_from_being_told(
    store: redis.Redis, hooks: Any, secret: str, alert: Alert, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    def tick(_: AlertEngine) -> bool:
        looks.append(1)
        raise KeyError("market")

    monkeypatch.setattr(AlertEngine, "tick", tick)
    receiver = {"name": "desk", "url": hooks.url, "secrets": [secret], "allow_networks": ["127.0.0.0/8"]}
    alerting = Alerting(
        AlertsSettings.model_validate({"receivers": [{"type": "webhook", **receiver}], "poll_s": 0.01}),
        redis_url=_url(store),
        documents_topic=TOPIC,
        partitions=PARTITIONS,
        registry=CollectorRegistry(),
    )
    stop = threading.Event()
    thread = threading.Thread(target=alerting.run, args=(stop,))
    thread.start()
    while not alerting.health()[1][0].startswith("nothing is judged"):
        stop.wait(0.01)
    AlertStore(store).put(alert)
    while not hooks.requests:
        stop.wait(0.01)
    while len(looks) < 2:  # and it is tried again
        stop.wait(0.01)
    live, ready = alerting.health()
    stop.set()
    thread.join(timeout=20)
    assert not thread.is_alive()
    assert (live, ready) == ([], ["nothing is judged: KeyError('market')", "has not started"])


def test_run_survives_a_server_that_is_away_and_stops_when_told(
    store: redis.Redis, item: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _write(store, _history(item, 2))
    engine = Alerting(
        AlertsSettings(clock="event", poll_s=0.01),
        redis_url=_url(store),
        documents_topic=TOPIC,
        partitions=PARTITIONS,
        registry=CollectorRegistry(),
        clock=lambda: WALL,
    )
    real, failing = Buckets.progress, [True]

    def flaky(self: Buckets) -> Any:
        if failing[0]:
            failing[0] = False
            raise redis.ConnectionError("away")
        return real(self)

    monkeypatch.setattr(Buckets, "progress", flaky)
    assert engine.health()[1] == ["has not started"]
    stop = threading.Event()
    thread = threading.Thread(target=engine.run, args=(stop,))
    thread.start()
    while engine.health() != ([], []):
        stop.wait(0.01)
    stop.set()
    thread.join(timeout=20)
    assert not thread.is_alive()
    assert "going back to the last snapshot" in caplog.text
    assert AlertStore(store).load_state() is not None


def test_new_alerts_and_their_later_revisions_carry_the_words(store: redis.Redis, item: Make, secret: str) -> None:
    _write(store, _history(item, 44, surges=(30, 40)))
    asked = []

    def explainer(titles: Any) -> list[list[tuple[str, float]]]:
        if not titles:  # to make ready
            return []
        asked.append(list(titles))
        if "resolved" not in _turns(store):
            raise RuntimeError("broken for the first alert")
        return [[(title.split()[0], 1.5)] for title in titles]

    _finish(_engine(store, secret, explainer=explainer))
    log, stored, deliveries = _outcome(store, secret)
    assert len(asked) == sum(line[2] in ("firing", "moved") for line in log)  # of its own few stories, each time
    assert max(map(len, asked)) <= 8
    words = {line[3]: {story.words for story in stored[line[0]].stories} for line in log if line[2] == "resolved"}
    assert [words[at] for at in sorted(words)] == [{()}, {(("Title", 1.5),)}]
    assert any(b'"words":[["Title",1.5]]' in body.encode() for _, _, body, _ in deliveries)
