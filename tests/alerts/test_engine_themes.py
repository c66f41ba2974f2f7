"""Themes from the windows to the outbox: an alert of their own, or a line in the alert that explains them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import redis
import redis.asyncio
from prometheus_client import CollectorRegistry

from alerts.alert import Alert
from alerts.book import Episode
from alerts.buckets import Buckets
from alerts.discovery import Discovery
from alerts.engine import AlertEngine
from alerts.episodes import Theme
from alerts.judging import Judging
from alerts.lifecycle import Lifecycle
from alerts.metrics import AlertsMetrics
from alerts.series import series_of
from alerts.settings import AlertsSettings, ThemesSettings
from alerts.store import AlertStore
from alerts.surge import Detector
from alerts.windows import WindowItem, Windows

START = 1_678_060_800.0  # 2023-03-06 00:00 UTC
HOUR_S = 3_600.0
TITLES = ("Queues at Lumen Harbour branches", "Regulator examines Lumen Harbour books", "No buyer for Lumen Harbour")
Make = Callable[..., WindowItem]


def _engine(store: redis.Redis, *, on: bool = True) -> AlertEngine:
    pool = store.connection_pool.connection_kwargs
    return AlertEngine(
        AlertsSettings(clock="event", snapshot_s=1e-9, themes=ThemesSettings(on=on)),
        redis_url=f"redis://{pool['host']}:{pool['port']}/0",
        documents_topic="documents",
        partitions=1,
        registry=CollectorRegistry(),
        clock=lambda: START + 400 * 24 * HOUR_S,
    )


def _write(store: redis.Redis, items: list[WindowItem]) -> None:
    async def write() -> None:
        pool = store.connection_pool.connection_kwargs
        async with redis.asyncio.Redis(host=pool["host"], port=pool["port"]) as client:
            for at in range(0, len(items), 1_000):
                part = items[at : at + 1_000]
                await Windows(client).add("documents", 0, part, part[-1].offset)

    asyncio.run(write())


def _history(item: Make) -> list[dict[str, Any]]:
    """Two hours full of items, then two days with few; so much is known of what is usual."""
    rng = random.Random(4)
    fields = []
    for n in range(4_000):
        at = START + (n * 1.8 if n < 3_900 else 2 * HOUR_S + (n - 3_900) * 2_400)
        title = " ".join("".join(rng.choice("bdgklmnrst") + rng.choice("aeiou") for _ in range(3)) for _ in range(6))
        label = "negative" if rng.random() < 0.2 else "neutral"
        fields.append({"seen_at": at, "title": title, "sentiment": label, "companies": ()})
    return fields


def _story(hour: float, number: int) -> dict[str, Any]:
    fields = {"title": TITLES[number], "publisher": f"Daily {number % 2}", "topic": f"T{number}", "companies": ()}
    return {"seen_at": START + hour * HOUR_S, **fields}


def test_a_theme_is_one_alert_that_closes_and_survives_restarts(store: redis.Redis, item: Make) -> None:
    fields = _history(item) + [_story(48 + n, n) for n in range(3)]
    fields += [{"seen_at": START + hour * HOUR_S, "sentiment": "neutral", "companies": ()} for hour in (60, 75.5)]
    fields.sort(key=lambda each: each["seen_at"])
    _write(store, [item(offset, **each) for offset, each in enumerate(fields)])
    more = True
    while more:
        more = _engine(store).tick()  # an hour at most, then a new process
    resolved, firing = AlertStore(store).log()
    assert (firing.event, firing.series) == ("firing", "theme=Lumen Harbour")
    assert firing.summary.startswith("Lumen Harbour: 3 negative stories in 24 h; ")
    assert (resolved.event, resolved.alert) == ("resolved", firing.alert)
    alert = AlertStore(store).get(firing.alert)
    assert alert is not None
    assert {story.title for story in alert.stories} == set(TITLES)
    assert alert.publishers == 2
    assert alert.figures.expected < 0.1 < 3 == alert.figures.observed


@pytest.fixture
def lifecycle() -> Lifecycle:
    """Nothing is open."""
    settings = AlertsSettings()
    return Lifecycle(settings, Detector(settings.surge), Discovery(), AlertsMetrics(CollectorRegistry()))


@pytest.fixture
def theme(item: Make) -> Theme:
    """Four stories about one bank, which its titles name; two are listed as of a company."""
    about = [("SIVB",), ("SIVB",), ("SIVB",), ()]
    items = tuple(item(n, companies=companies, topic="Liquidity") for n, companies in enumerate(about))
    return Theme(
        event="opened", phrase="Lumen Harbour", minute=28_000_000, opened=28_000_000, window_min=1_440, observed=4,
        expected=0.02, low=0, high=0, p_value=1e-7, z=5.0, share=1e-4, history=0.0, copies=1, items=items,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("series", "excess", "explains"),
    [
        ("company=SIVB", 5.0, True),
        ("company=SIVB;topic=Liquidity", 50.0, True),
        ("company=XYZ", 5.0, False),
        ("topic=Liquidity", 6.0, True),
        ("topic=Liquidity", 20.0, False),  # most of what the topic has is something else
        ("market", 60.0, False),
    ],
)
def test_an_open_alert_explains_a_theme(
    lifecycle: Lifecycle, theme: Theme, alert: Alert, series: str, excess: float, explains: bool
) -> None:
    other = msgspec.structs.replace(alert, series=series)
    lifecycle.episodes = [Episode(alert=other, minute=theme.minute - 5, excess={series: excess})]
    (change,) = lifecycle.step_themes([theme])
    if explains:
        assert (change.event, change.alert.id, change.alert.also[-1].name) == (None, alert.id, "Lumen Harbour")
        assert lifecycle.step_themes([msgspec.structs.replace(theme, event="closed")]) == []
    else:
        assert (change.event, change.alert.series) == ("alert.firing", "theme=Lumen Harbour")
        (over,) = lifecycle.step_themes([msgspec.structs.replace(theme, event="closed", minute=theme.minute + 1_500)])
        assert (over.event, over.alert.status, over.alert.id) == ("alert.resolved", "resolved", change.alert.id)
    assert len(lifecycle.episodes) == 1


def test_turned_off_there_are_no_themes_and_open_ones_are_closed(store: redis.Redis, item: Make) -> None:
    fields = _history(item) + [_story(48 + n / 10, n) for n in range(3)]
    fields += [{"seen_at": START + 49 * HOUR_S, "sentiment": "neutral", "companies": ()}]
    fields.sort(key=lambda each: each["seen_at"])
    _write(store, [item(offset, **each) for offset, each in enumerate(fields)])
    engine = _engine(store)
    while engine.tick():
        pass
    assert [line.event for line in AlertStore(store).log()] == ["firing"]
    engine = _engine(store, on=False)
    while engine.tick():
        pass
    assert [line.event for line in AlertStore(store).log()] == ["resolved", "firing"]


def test_what_a_theme_held_is_watched_no_longer_when_it_is_not_taken_up(store: redis.Redis, alert: Alert) -> None:
    settings = AlertsSettings(themes=ThemesSettings(on=False))
    judging = Judging(settings, Buckets(store, "documents", 1), AlertsMetrics(CollectorRegistry()), None)
    counts = {(series, 28_000_000, "neutral"): 1 for series in series_of("Liquidity", ["SIVB", "KRE"])}
    judging.detector.update(28_000_000, counts)
    held = {"theme=Lumen Harbour": ["market", "company=SIVB"], "company=KRE": ["company=KRE"]}
    for main, members in held.items():
        about, excess = msgspec.structs.replace(alert, series=main), dict.fromkeys(members, 5.0)
        judging.lifecycle.episodes.append(Episode(alert=about, minute=28_000_000, excess=excess))
        for member in members:
            judging.detector.watch(member)
    memory = judging.memory()
    judging.begin()
    judging.restore(memory)
    assert [episode.alert.series for episode in judging.lifecycle.episodes] == ["company=KRE"]
    assert judging.detector.watched == ["company=KRE"]
