"""The desk with many series and viewers: how fast pages and news are, and how much memory it takes.

    python -m tests.bench.desk [--series 10000] [--rows 1000] [--viewers 200] [--rounds 10]

A real `newsquake desk` on a real Valkey. The table of now says that it is of 10,000 series and holds 1,000 rows, as
alerting writes it (`--rows 10000`: all of them); 100 alerts are open. Each viewer is signed in and holds a stream of
events. In a round a new alert is stored and a new table written; a viewer is up to date when the event of the new alert
is there, and, since that is what a browser does, when the page it loads again after it is there too. The viewers run in
one process beside the desk: on a small machine they take their part of it. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import msgspec
import numpy as np
import psutil
from redis import Redis

from alerts.alert import Alert, alert_id
from alerts.desk.auth import Sessions, Tokens
from alerts.desk.visitors import COOKIE
from alerts.now import Row, Table
from alerts.store import AlertStore
from deploy.local.ports import free_ports
from deploy.local.servers import LocalValkey
from tests.made import made_alert, made_story

_OPEN = 100
_PAUSE_S = 3.0
_DEBOUNCE_S = 0.15  # as desk.js does
_FIRST = 20


def table(series: int, rows: int, rng: np.random.Generator) -> Table:
    """Return a table in which all rows differ."""
    minute = int(time.time() // 60)
    made = []
    for n in range(rows):
        counts = rng.poisson(5, (2, 60))
        made.append(
            Row(
                series=f"company=C{n}", name=f"C{n}", kind="company", state="normal", window_min=60,
                observed=int(rng.poisson(6)), others=int(rng.poisson(30)), expected=6.1, low=2, high=11,
                z=round(float(rng.normal()), 2), strength=round(4 - n / rows * 8, 2), share=0.15, items_min=0.6,
                usual_min=0.5, bin_min=2, negatives=counts[0].tolist(), totals=counts.sum(axis=0).tolist(),
                due=rng.gamma(25, 0.2, 60).round(2).tolist(), lows=[1] * 60, highs=[10] * 60,
            )
        )  # fmt: skip
    return Table(minute=minute, written_at=time.time(), series=series, warming_up="", missing=0, rows=made)


def alert(number: int) -> Alert:
    """Return a firing alert with eight stories."""
    at = datetime.now(UTC).replace(microsecond=0)
    story = made_story("Bank halts withdrawals as its shares plunge", at, companies=("ACME",))
    id_ = alert_id(f"company=C{number}", number)
    return made_alert(f"C{number}", at, id=id_, severity="warning", stories=(story,) * 8)


class Desk:
    """A desk in a process of its own, and what is stored for it."""

    def __init__(self, redis: Redis, url: str, folder: Path, viewers: int) -> None:
        self.redis, self.store = redis, AlertStore(redis)
        tokens = Tokens(redis)
        token = tokens.check(tokens.add("bench", "analyst"))
        assert token is not None
        self.cookie, _ = Sessions(redis, tokens, 3600).begin(token.name, token.role, token.id)
        page, metrics = free_ports(2)
        self.url = f"http://127.0.0.1:{page}"
        env = {
            **os.environ, "NEWSQUAKE_CONFIG": str(folder / "none.toml"), "NEWSQUAKE_REDIS__URL": url,
            "NEWSQUAKE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1", "NEWSQUAKE_HTTP__DESK_PORT": str(metrics),
            "NEWSQUAKE_DESK__VIEWERS": str(viewers + 10), "NEWSQUAKE_DESK__VIEWERS_EACH": str(viewers + 10),
            "NEWSQUAKE_LOG__LEVEL": "ERROR",
        }  # fmt: skip
        (folder / "none.toml").touch()
        command = [sys.executable, "-c", "from deploy.cli import main; main()", "desk", "--port", str(page)]
        self.process = subprocess.Popen(command, env=env, cwd=folder)
        self._memory = psutil.Process(self.process.pid)

    def memory_mb(self) -> float:
        """Return its resident memory."""
        return round(self._memory.memory_info().rss / 1e6, 1)

    def write(self, made: Table) -> None:
        """Write a table as alerting does."""
        with self.redis.pipeline(transaction=True) as pipe:
            pipe.set("nq:{alerts}:now", msgspec.msgpack.encode(made))
            pipe.set("nq:{alerts}:now:minute", made.minute)
            pipe.execute()

    def client(self, **options: object) -> httpx.AsyncClient:
        """Return a browser that is signed in."""
        return httpx.AsyncClient(
            base_url=self.url, cookies={COOKIE: self.cookie}, trust_env=False, timeout=60, **options
        )  # type: ignore[arg-type]  # any of httpx's options


class Viewer:
    """Holds a stream of events; notes when each alert's event came, and when the page loaded after it was there."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.told: dict[str, float] = {}
        self.shown: dict[str, float] = {}
        self.failed: list[str] = []
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Look on until cancelled."""
        loads: set[asyncio.Task[None]] = set()
        async for kind, data in self._events():
            if kind == "transition":
                id_ = json.loads(data)["alert"]
                self.told[id_] = time.perf_counter()
                task = asyncio.create_task(self._load(id_))
                loads.add(task)
                task.add_done_callback(loads.discard)

    async def _events(self) -> AsyncIterator[tuple[str, str]]:
        async with self._client.stream("GET", "/api/v1/events") as answer:
            answer.raise_for_status()
            kind = ""
            async for line in answer.aiter_lines():
                self.ready.set()
                if line.startswith("event: "):
                    kind = line[7:]
                elif line.startswith("data: "):
                    yield kind, line[6:]

    async def _load(self, id_: str) -> None:
        await asyncio.sleep(_DEBOUNCE_S)
        try:
            (await self._client.get("/", headers={"x-refresh": "1"})).raise_for_status()
        except httpx.HTTPError as exc:
            self.failed.append(repr(exc)[:120])
        else:
            self.shown[id_] = time.perf_counter()


def spread(seconds: list[float]) -> dict[str, float]:
    """Return milliseconds."""
    ordered = sorted(seconds)
    return {
        "p50_ms": round(1e3 * statistics.median(ordered), 1),
        "p95_ms": round(1e3 * ordered[int(0.95 * (len(ordered) - 1))], 1),
        "max_ms": round(1e3 * ordered[-1], 1),
    }


async def pages(client: httpx.AsyncClient, path: str, count: int) -> list[float]:
    """Return how long each of some requests took."""
    found = []
    for _ in range(count):
        begun = time.perf_counter()
        (await client.get(path)).raise_for_status()
        found.append(time.perf_counter() - begun)
    return found


async def measure(desk: Desk, arguments: argparse.Namespace) -> dict[str, object]:
    """Return the figures."""
    rng = np.random.default_rng(1)
    async with contextlib.AsyncExitStack() as stack:
        one = await stack.enter_async_context(desk.client())
        for _ in range(600):
            with contextlib.suppress(httpx.TransportError):
                if (await one.get("/api/v1/me")).status_code == 200:
                    break
            await asyncio.sleep(0.1)
        begun = time.perf_counter()
        (await one.get("/")).raise_for_status()
        figures: dict[str, object] = {"first_page_cold_ms": round(1e3 * (time.perf_counter() - begun), 1)}
        figures["first_page"] = spread(await pages(one, "/", _FIRST))
        figures["alerts_page"] = spread(await pages(one, "/alerts", _FIRST))
        figures["memory_before_mb"] = desk.memory_mb()

        limits = httpx.Limits(max_connections=4)
        viewers = [
            Viewer(await stack.enter_async_context(desk.client(limits=limits))) for _ in range(arguments.viewers)
        ]
        tasks = [asyncio.create_task(viewer.run()) for viewer in viewers]
        await asyncio.gather(*(viewer.ready.wait() for viewer in viewers))
        told, shown, missed, memory = [], [], 0, []
        for number in range(arguments.rounds):
            made = alert(_OPEN + number)
            desk.write(table(arguments.series, arguments.rows, rng))
            at = time.perf_counter()
            desk.store.put(made)
            for _ in range(600):
                if all(made.id in viewer.shown or viewer.failed for viewer in viewers):
                    break
                await asyncio.sleep(0.1)
            told += [viewer.told[made.id] - at for viewer in viewers if made.id in viewer.told]
            shown += [viewer.shown[made.id] - at for viewer in viewers if made.id in viewer.shown]
            missed += sum(made.id not in viewer.shown for viewer in viewers)
            memory.append(desk.memory_mb())
            await asyncio.sleep(_PAUSE_S)
        figures |= {"event": spread(told), "page_after_event": spread(shown), "missed": missed}
        figures["failures"] = dict(Counter(reason for viewer in viewers for reason in viewer.failed).most_common(3))
        figures["first_page_with_viewers"] = spread(await pages(one, "/", _FIRST))
        figures["memory_by_round_mb"] = memory
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return figures


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=1_000)
    parser.add_argument("--viewers", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory())
        valkey = stack.enter_context(LocalValkey(Path(name) / "valkey"))
        redis = stack.enter_context(Redis.from_url(valkey.url))
        for number in range(_OPEN):
            AlertStore(redis).put(alert(number))
        desk = Desk(redis, valkey.url, Path(name), arguments.viewers)
        try:
            desk.write(table(arguments.series, arguments.rows, np.random.default_rng(0)))
            figures = asyncio.run(measure(desk, arguments))
        finally:
            desk.process.terminate()
            desk.process.wait(30)
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "load_a_core": round(load, 1)}
    for key, value in figures.items():
        print(f"{key:28}{value}")
    print(json.dumps(vars(arguments) | machine | figures))


if __name__ == "__main__":
    main()
