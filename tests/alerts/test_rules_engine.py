"""Rules from the file to the outbox: what is muted, told earlier, told to some, and told anew when the file changes."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from alerts.alert import Alert
from alerts.dispatch import Dispatcher
from alerts.engine import AlertEngine
from alerts.outbox import Outbox
from alerts.receivers import WebhookReceiver
from alerts.series import company_of
from alerts.settings import AlertsSettings
from alerts.store import AlertStore
from alerts.windows import WindowItem, Windows

START = 1_678_060_800.0  # 2023-03-06 00:00 UTC
DAY_S = 86_400
Make = Callable[..., WindowItem]


@pytest.fixture
def week(store: redis.Redis, item: Make) -> None:
    """A day and a half in which little is bad, at its end half an hour of bad news about one bank."""
    rng = random.Random(7)
    found: list[dict[str, Any]] = []
    for minute in range(44 * 60):
        at = START + minute * 60 + rng.random() * 50
        if minute % 2 == 0:
            label = "negative" if rng.random() < 0.2 else "neutral"
            company, topic = f"C{rng.randrange(8)}", rng.choice(["Earnings", "Liquidity"])
            found.append({"companies": (company,), "sentiment": label, "topic": topic, "seen_at": at})
        if 0 <= minute - 36 * 60 < 25:
            bad = {"companies": ("SIVB",), "topic": "Liquidity", "seen_at": at + 1}
            found.append({**bad, "publisher": f"Daily {rng.randrange(4)}"})
    items = [item(offset, **fields) for offset, fields in enumerate(found)]

    async def write() -> None:
        pool = store.connection_pool.connection_kwargs
        async with redis.asyncio.Redis(host=pool["host"], port=pool["port"]) as client:
            for at in range(0, len(items), 500):
                part = items[at : at + 500]
                await Windows(client).add("documents", 0, part, part[-1].offset)

    asyncio.run(write())


class Run:
    """What came of the week under some rules."""

    def __init__(self, store: redis.Redis, file: Path, rules: str, secret: str) -> None:
        file.write_text(rules)
        for key in list(store.scan_iter("nq:*")):  # nothing is left of a run before, but what was counted
            if key.startswith(b"nq:{alerts}:") or key.endswith(b":sealed"):
                store.delete(key)
        hooks = [
            WebhookReceiver(name=name, url=SecretStr(f"http://127.0.0.1:1/{name}"), secrets=(SecretStr(secret),))
            for name in ("risk", "desk")
        ]
        self.registry = CollectorRegistry()
        pool = store.connection_pool.connection_kwargs
        engine = AlertEngine(
            AlertsSettings.model_validate(
                {"clock": "event", "snapshot_s": 1e-9, "receivers": hooks, "rules": file, "themes": {"on": False}}
            ),
            redis_url=f"redis://{pool['host']}:{pool['port']}/0",
            documents_topic="documents",
            partitions=1,
            registry=self.registry,
            clock=lambda: START + 400 * DAY_S,
        )
        dispatcher = Dispatcher(store, lambda: engine.watch.rules, engine.metrics)
        more = True
        while more:
            more = engine.tick()
            while dispatcher.step(engine.now(), time.time()):
                pass
        self.store = AlertStore(store)
        outbox = Outbox(store)
        self.told: dict[str | None, list[str]] = {}
        for hook in hooks:
            self.told[hook.name] = []
            while due := outbox.due(hook.name, 1e12):
                self.told[hook.name].append(due[0].event)
                outbox.done(due[0], 1e12)
        opened = [self.store.get(line.alert) for line in self.store.log() if line.event == "firing"]
        self.alerts: list[Alert] = [alert for alert in opened if alert is not None]


@pytest.fixture
def run(store: redis.Redis, week: None, tmp_path: Path, secret: str) -> Callable[[str], Run]:
    return lambda rules: Run(store, tmp_path / "rules.yaml", rules, secret)


def about_the_bank(found: Run) -> list[Alert]:
    return [alert for alert in found.alerts if any("SIVB" in story.companies for story in alert.stories)]


def test_without_a_matching_rule_all_are_told(run: Callable[[str], Run]) -> None:
    found = run("rules: [{name: other, match: {company: XYZ}, mute: true}]")
    assert about_the_bank(found)
    assert found.told["risk"] == found.told["desk"] != []


def test_what_is_muted_opens_no_alert_and_is_counted(run: Callable[[str], Run]) -> None:
    found = run("defaults: {mute: true}")
    assert found.alerts == []
    assert found.told == {"risk": [], "desk": []}
    held = found.registry.get_sample_value("newsquake_alerts_held_total", {"reason": "muted"})
    assert held is not None and held > 0


def test_a_mute_ends_with_its_time(run: Callable[[str], Run]) -> None:
    interval = "{name: early, time_intervals: [{times: [{start_time: '00:00', end_time: '12:20'}]}]}"
    found = run(f"time_intervals: [{interval}]\nrules: [{{name: quiet, match: {{during: early}}, mute: true}}]")
    first = min(alert.started_at for alert in about_the_bank(found))
    assert (first.hour, first.minute) >= (12, 20)


def test_who_is_told_of_the_beginning_is_told_of_the_end_and_nobody_else(run: Callable[[str], Run]) -> None:
    found = run("defaults: {receivers: [risk], critical_from: never}")
    assert found.told["risk"].count("alert.firing") == found.told["risk"].count("alert.resolved") > 0
    assert found.told["desk"] == []
    assert {alert.severity for alert in found.alerts} == {"warning"}


def test_with_no_receivers_the_alert_is_kept_and_nobody_told(run: Callable[[str], Run]) -> None:
    found = run("defaults: {receivers: [], critical_from: always}")
    assert about_the_bank(found)
    assert found.told == {"risk": [], "desk": []}
    assert {alert.severity for alert in found.alerts} == {"critical"}


def test_routes_say_who_is_told_and_a_rule_has_the_last_word(run: Callable[[str], Run]) -> None:
    routes = "route: {receiver: risk, routes: [{matchers: [company=SIVB], receiver: desk}]}\n"
    found = run(routes)
    assert about_the_bank(found)
    of_bank = [alert for alert in found.alerts if company_of(alert.series) == "SIVB"]
    assert found.told["desk"].count("alert.firing") == found.told["desk"].count("alert.resolved") == len(of_bank) > 0
    assert found.told["risk"].count("alert.firing") == len(found.alerts) - len(of_bank)
    assert run(routes + "defaults: {receivers: []}").told == {"risk": [], "desk": []}


@pytest.mark.parametrize("limit", ["threshold_z: 100", "minimum_count: 1000", "minimum_publishers: 50"])
def test_a_stricter_limit_opens_none(run: Callable[[str], Run], limit: str) -> None:
    assert run(f"defaults: {{{limit}}}").alerts == []


def test_windows_are_those_allowed(run: Callable[[str], Run]) -> None:
    found = run("defaults: {windows: 1h}")
    assert {alert.figures.window_min for alert in about_the_bank(found)} == {60}


def test_a_lower_threshold_tells_earlier(run: Callable[[str], Run]) -> None:
    late, early = (
        min(alert.started_at for alert in about_the_bank(run(rules)))
        for rules in ("defaults: {threshold_z: 7}", "defaults: {threshold_z: 2.5, minimum_count: 3}")
    )
    assert early < late
