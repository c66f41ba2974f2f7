"""How late receivers have what they are told, alone and among others that misbehave.

    python -m tests.bench.delivery [--alerts 300] [--rate 8] [--healthy 3] [--backlog 1000] [--burst 284]

Alerting as it runs live, in a process of its own, on a real Valkey; receivers of webhooks behind real sockets, with the
limits that ship. Alerts fire, grow, are acknowledged and end, stored as detectors and people store them, at chance
moments, so many a second. Late is how long after the time of a transition a healthy receiver has read its whole
message: first with healthy receivers alone, then with those of `OTHERS` beside them. Then so many alerts fire at one
moment (`--burst`), with receivers that answer at once, and with such as answer after 0.2 s. `missed` and `twice` are
messages that a healthy receiver never had, or had more than once under one id. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import random
import re
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trustme
from prometheus_client import CollectorRegistry
from redis import Redis

from alerts.actions import Actions
from alerts.alert import Alert
from alerts.breaker import Down
from alerts.life import Transition
from alerts.outbox import Outbox
from alerts.service import Alerting
from alerts.settings import AlertsSettings
from alerts.store import FENCE, AlertStore
from deploy.local.ports import free_ports
from deploy.local.servers import LocalValkey
from tests.alerts.rig import changes, deliveries, queue
from tests.made import made_alert

TOLD_AS = {each: f"alert.{each}" for each in ("firing", "escalated", "acknowledged", "resolved")}
_WAIT_S = 120.0
_STEPS = 2 + 1 / 2 + 1 / 3  # of an alert, on average
_A_MINUTE = 540  # at chance moments; a webhook takes 600
_HOUR_S = 3_600.0
_FAR_S = 0.2

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


def says(head: str, after_s: float = 0.0, *, keeps: bool = False) -> Answer:
    """Answer with a status and headers, after a while; a connection is kept for the next message or not."""
    kept = "" if keeps else "connection: close\r\n"

    async def answer(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(after_s)
        writer.write(f"HTTP/1.1 {head}\r\ncontent-length: 0\r\n{kept}\r\n".encode())
        await writer.drain()
        if not keeps:
            writer.close()

    return answer


async def cut(writer: asyncio.StreamWriter) -> None:
    """Reset the connection in the middle of an answer."""
    writer.write(b"HTTP/1.1 2")
    await writer.drain()
    writer.transport.abort()


async def drip(writer: asyncio.StreamWriter) -> None:
    """Answer a letter a second, for ever."""
    writer.write(b"HTTP/1.1 200 OK\r\nx: ")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(1)


healthy = says("204 No Content", keeps=True)
far = says("204 No Content", _FAR_S, keeps=True)
OTHERS: dict[str, Answer | None] = {
    "slow": says("204 No Content", after_s=20),
    "late": says("204 No Content", after_s=10),
    "drip": drip,
    "broken": says("500 Internal Server Error"),
    "busy": says("429 Too Many Requests\r\nretry-after: 60"),
    "gone": says("410 Gone"),
    "led-away": says("302 Found\r\nlocation: http://169.254.169.254/latest/meta-data/"),
    "cut": cut,
    "mute": None,  # takes connections, and no hand-shake of TLS gets an answer
    "distrusted": healthy,  # by TLS, with the certificate of an authority that nobody knows
    "down": None,  # nobody listens there
    "back": healthy,  # was down for an hour, with `--backlog` messages waiting
}


class Receivers:
    """All receivers, in one thread: when each had which message (Unix seconds), under which id."""

    def __init__(self, names: list[str], answer: Answer) -> None:
        self.had: dict[str, list[tuple[float, str, bytes]]] = {name: [] for name in names}
        self.tried: Counter[str] = Counter()
        self.urls: dict[str, str] = {}
        self._answer = answer  # of those that are not among `OTHERS`
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        asyncio.run_coroutine_threadsafe(self._listen(names), self._loop).result(30)

    async def _listen(self, names: list[str]) -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
        for name in names:
            scheme = "https" if name in ("mute", "distrusted") else "http"
            (port,) = free_ports(1)
            if name != "down":
                serve = self._serve(name, OTHERS.get(name, self._answer))
                secured = tls if name == "distrusted" else None
                server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=secured, backlog=1_000)
                port = server.sockets[0].getsockname()[1]
            self.urls[name] = f"{scheme}://127.0.0.1:{port}/"

    def _serve(self, name: str, answer: Answer | None) -> Callable[..., Awaitable[None]]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                if answer is None:
                    self.tried[name] += 1
                    await reader.read()  # until the other side gives up
                    return
                while not writer.is_closing():
                    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                    found = re.search(r"content-length: (\d+)", head), re.search(r"webhook-id: (\S+)", head)
                    self.tried[name] += 1
                    assert found[0]
                    assert found[1]
                    body = await reader.readexactly(int(found[0][1]))
                    self.had[name].append((time.time(), found[1][1], body))
                    await answer(writer)
            writer.close()

        return serve


def alert(number: int, at: datetime) -> Alert:
    """Return a firing alert."""
    return made_alert(f"C{number}", at, id=f"{number:032x}", severity="warning")


def play(redis: Redis, count: int, rate: float) -> None:
    """Let alerts live: each in its order, all of them mixed, so many steps a second on average."""
    rng, store, actions = random.Random(1), AlertStore(redis), Actions(redis)
    left = {number: ["fire", *["grow"] * (number % 3 == 0), *["take"] * (number % 2), "end"] for number in range(count)}
    known: dict[int, Alert] = {}
    due = time.monotonic()
    while left:
        due += rng.expovariate(rate)
        time.sleep(max(0.0, due - time.monotonic()))
        number = rng.choice(list(left)[:20])
        what, now = left[number].pop(0), datetime.now(UTC)
        if not left[number]:
            del left[number]
        if what == "take":
            actions.acknowledge(f"{number:032x}", "anna")
            continue
        if what == "fire":
            known[number] = alert(number, now)
        else:
            fields: dict[str, Any] = {"severity": "critical"} if what == "grow" else {"status": "resolved"}
            revision = known[number].revision + 1
            known[number] = msgspec.structs.replace(known[number], revision=revision, updated_at=now, **fields)
        store.put(known[number])


def burst(redis: Redis, count: int) -> None:
    """Let so many alerts fire at one moment, as after a minute that shocks the market."""
    store, now = AlertStore(redis), datetime.now(UTC)
    for number in range(count):
        store.put(alert(number, now))


def wait_in(redis: Redis, name: str, count: int) -> None:
    """Leave a receiver with messages from the hour for which it has been down."""
    now_s = time.time()
    made = changes(alert(0, datetime.now(UTC)), count)[:count]
    for number, (event, one) in enumerate(made):
        another = msgspec.structs.replace(one, id=f"{10**9 + int(one.id, 16):032x}")
        at_s = now_s - _HOUR_S * (1 - number / count)
        queue(redis, deliveries(event, another, [name], at_s), at_s)
    down = Down(since_s=now_s - _HOUR_S, reason="nobody listened", wait_s=300.0, probe_s=now_s + 20)
    Outbox(redis).set_down(name, down)


@contextlib.contextmanager
def alerting(url: str, urls: dict[str, str]) -> Iterator[None]:
    """Alerting in a process of its own, which leads."""
    receivers = [
        {"name": name, "url": where, "secrets": ["whsec_" + "A" * 32], "allow_networks": ["127.0.0.0/8"]}
        for name, where in urls.items()
    ]
    settings = {"themes": {"on": False}, "receivers": [{"type": "webhook", **each} for each in receivers]}
    command = [sys.executable, "-m", "tests.bench.delivery", "--lead", url, json.dumps(settings)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        with Redis.from_url(url) as redis:
            while not redis.exists(FENCE):
                time.sleep(0.1)
        time.sleep(1)  # all its parts run
        yield
    finally:
        process.terminate()
        process.wait(120)


def lead(url: str, settings: str) -> None:
    """Be that process."""
    made = AlertsSettings.model_validate_json(settings)
    Alerting(made, redis_url=url, documents_topic="d", partitions=1, registry=CollectorRegistry()).run(
        threading.Event()
    )


def late(steps: list[Transition], had: dict[str, list[tuple[float, str, bytes]]]) -> dict[str, Any]:
    """Return how late healthy receivers had what they were to be told."""
    found, missed, twice = list[float](), 0, 0
    for each in had.values():
        first: dict[tuple[str, str], float] = {}
        for at_s, _, body in each:
            told = json.loads(body)
            first.setdefault((told["data"]["id"], told["type"]), at_s)
        wanted = [(first.get((step.alert, TOLD_AS[step.event])), step.at.timestamp()) for step in steps]
        found += [at_s - since_s for at_s, since_s in wanted if at_s is not None]
        missed += sum(at_s is None for at_s, _ in wanted)
        twice += len(each) - len({id_ for _, id_, _ in each})
    ordered = sorted(found)
    return {
        "messages": len(ordered),
        "p50_ms": round(1e3 * statistics.median(ordered)),
        "p95_ms": round(1e3 * ordered[int(0.95 * (len(ordered) - 1))]),
        "max_ms": round(1e3 * ordered[-1]),
        "missed": missed,
        "twice": twice,
    }


def measure(
    names: list[str], lives: Callable[[Redis], None], *, others: Sequence[str] = (), backlog: int = 0,
    answer: Answer = healthy,
) -> dict[str, Any]:  # fmt: skip
    """Return a row: of receivers that `answer` so, `others` beside them, while alerts live."""
    receivers = Receivers([*names, *others], answer)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        valkey = stack.enter_context(LocalValkey(Path(folder)))
        redis = stack.enter_context(Redis.from_url(valkey.url))
        if "back" in others:
            wait_in(redis, "back", backlog)
        stack.enter_context(alerting(valkey.url, receivers.urls))
        lives(redis)
        steps = [step for step in AlertStore(redis).log(1_000_000) if step.event in TOLD_AS]
        until = time.monotonic() + _WAIT_S
        while time.monotonic() < until and any(len(receivers.had[name]) < len(steps) for name in names):
            time.sleep(0.2)
        waits = {name: Outbox(redis).waiting(name)[0] for name in others}
    found = late(steps, {name: receivers.had[name] for name in names})
    if others:
        found["others"] = {name: {"tried": receivers.tried[name], "waiting": waits[name]} for name in others}
    return found


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alerts", type=int, default=300)
    parser.add_argument(
        "--rate", type=float, default=8.0, help="transitions a second, 9 at most of many (default %(default)s)"
    )
    parser.add_argument("--healthy", type=int, default=3, help="healthy receivers (default %(default)s)")
    parser.add_argument("--backlog", type=int, default=1_000, help="messages that wait for one (default %(default)s)")
    parser.add_argument("--burst", type=int, default=284, help="alerts at one moment (default %(default)s)")
    parser.add_argument("--lead", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.lead:
        lead(*arguments.lead)
        return
    if max(arguments.burst, min(_STEPS * arguments.alerts, 60 * arguments.rate)) > _A_MINUTE:
        parser.error(f"more than {_A_MINUTE} transitions a minute: beyond 600 a webhook gets digests")
    names = [f"healthy-{number + 1}" for number in range(arguments.healthy)]
    usual, shock = partial(play, count=arguments.alerts, rate=arguments.rate), partial(burst, count=arguments.burst)
    rows = {
        "alone": measure(names, usual),
        "among": measure(names, usual, others=list(OTHERS), backlog=arguments.backlog),
        "burst_near": measure(names, shock),
        "burst_far": measure(names, shock, answer=far),
    }
    for name, row in rows.items():
        print(f"{name:11}" + "  ".join(f"{key} {value}" for key, value in row.items() if key != "others"))
    for name, counts in rows["among"]["others"].items():
        print(f"  {name:12}tried {counts['tried']:5}   waiting {counts['waiting']:5}")
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "load_a_core": round(load, 1)}
    asked = {key: value for key, value in vars(arguments).items() if key != "lead"}
    print(json.dumps(asked | machine | rows))


if __name__ == "__main__":
    main()
