"""A feed that falls silent before, during and after a surge: it is neither calm nor news, and nobody is told twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
import redis.asyncio
from prometheus_client import CollectorRegistry

from alerts.engine import AlertEngine
from alerts.settings import AlertsSettings
from alerts.store import AlertStore
from alerts.windows import WindowItem, Windows

TOPIC = "documents"
START = 1_678_060_800.0  # Monday, 2023-03-06 00:00 UTC
SURGE, SURGE_MIN = 30 * 60, 25
Make = Callable[..., WindowItem]
Log = list[tuple[str, float]]
"""Transitions: the event and the hours since the start."""


def _published(hours: int) -> Iterator[dict[str, Any]]:
    """A minute's two items on the mean, about nine companies; at the surge bad news about a bank, too."""
    rng = random.Random(7)
    for minute in range(hours * 60):
        at = START + minute * 60
        for _ in range(rng.choice((1, 2, 3))):
            yield {
                "companies": (f"C{rng.randrange(9)}",),
                "sentiment": "negative" if rng.random() < 0.2 else "neutral",
                "topic": rng.choice(["Earnings", "Liquidity"]),
                "published_at": at + rng.random() * 50,
            }
        if 0 <= minute - SURGE < SURGE_MIN:
            yield {"companies": ("SIVB",), "topic": "Liquidity", "published_at": at + 55}


@pytest.fixture
def replay(store: redis.Redis, item: Make) -> Callable[..., tuple[Log, AlertEngine]]:
    """Runs the engine on a feed that is silent between two minutes and then brings what it held back."""

    def run(
        silent: tuple[int, int],
        *,
        hours: int = 40,
        backlog: bool = True,
        bad_evenings: bool = False,
        surge: bool = True,
    ) -> tuple[Log, AlertEngine]:
        begins, ends = (START + minute * 60 for minute in silent)
        items = []
        for fields in _published(hours):
            published = fields["published_at"]
            held = begins <= published < ends
            if held and not backlog:
                continue
            # What was held back comes within three minutes, in its order.
            fields["seen_at"] = ends + (published - begins) / (ends - begins) * 180 if held else published + 1
            items.append(fields)
        items.sort(key=lambda fields: fields["seen_at"])
        made = [item(offset, **fields) for offset, fields in enumerate(items)]

        async def write() -> None:
            async with redis.asyncio.Redis.from_url(url) as client:
                windows = Windows(client)
                for at in range(0, len(made), 500):
                    part = made[at : at + 500]
                    await windows.add(TOPIC, 0, part, part[-1].offset)
                await windows.idle(TOPIC, 0, int((START + 400 * 86_400) * 1000))

        pool = store.connection_pool.connection_kwargs
        url = f"redis://{pool['host']}:{pool['port']}/0"
        asyncio.run(write())
        engine = AlertEngine(
            AlertsSettings(clock="event", explain=False),
            redis_url=url,
            documents_topic=TOPIC,
            partitions=1,
            registry=CollectorRegistry(),
        )
        while engine.tick():
            pass
        log = [(line.event, (_seconds(line.at) - START) / 3600) for line in reversed(list(AlertStore(store).log()))]
        return [(event, at) for event, at in log if event in ("firing", "resolved")], engine

    return run


def _seconds(at: datetime | float) -> float:
    return at.astimezone(UTC).timestamp() if isinstance(at, datetime) else at


@pytest.mark.parametrize("backlog", [True, False])
@pytest.mark.parametrize(
    "silent",
    [
        pytest.param((26 * 60, 29 * 60), id="before"),
        pytest.param((SURGE + 12, SURGE + 192), id="during"),
        pytest.param((SURGE + 40, SURGE + 220), id="after"),
        pytest.param((SURGE + 125, SURGE + 305), id="in its calm"),
    ],
)
def test_a_silent_feed_ends_no_alert_and_its_return_begins_none(replay, silent, backlog):
    log, _ = replay(silent, backlog=backlog)
    assert [event for event, _ in log] == ["firing", "resolved"]
    (_, fired), (_, resolved) = log
    assert 30 < fired < 30.5
    if silent[1] > SURGE:
        assert resolved >= silent[1] / 60 + 1  # a calm hour has been seen, not assumed
    else:
        assert resolved < 34
