"""Who takes their time over the head of a request is shown out; who sent one whole is not."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from alerts.alert import Alert
from alerts.desk import punctual
from alerts.desk.live import Message


def _connect(served: Any) -> socket.socket:
    host, _, port = served.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=0.05)


def _dribble_until_closed(sock: socket.socket, data: bytes) -> bytes:
    """Send a byte each time nothing comes, over and over; return what the server said before it hung up."""
    said = b""
    for number in range(1_200):  # a minute
        try:
            part = sock.recv(4_096)
        except TimeoutError:
            with contextlib.suppress(OSError):
                sock.send(data[number % len(data) : number % len(data) + 1] if data else b"")
            continue
        except ConnectionResetError:
            return said
        if not part:
            return said
        said += part
    pytest.fail("the server never hung up")


@pytest.mark.parametrize("before", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n"], ids=["nothing", "half a head"])
@pytest.mark.parametrize("data", [b"", b"X-A: b\r\n"], ids=["silent", "dribbling"])
def test_a_head_that_does_not_come_ends_the_connection(
    served: Any, monkeypatch: pytest.MonkeyPatch, before: bytes, data: bytes
) -> None:
    monkeypatch.setattr(punctual, "HEAD_S", 0.5)
    with _connect(served) as sock:
        sock.sendall(before)
        assert b"200 OK" not in _dribble_until_closed(sock, data)


def test_a_second_head_must_come_too(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(punctual, "HEAD_S", 0.5)
    with _connect(served) as sock:
        sock.sendall(b"GET /signin HTTP/1.1\r\nHost: a\r\n\r\nGET /signin HTTP/1.1\r\n")
        assert _dribble_until_closed(sock, b"X-A: b\r\n").count(b"200 OK") == 1


def test_streams_outlast_it(served: Any, put: Callable[..., Alert], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(punctual, "HEAD_S", 0.3)
    with served.client.stream("GET", "/api/v1/events", timeout=20) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("retry")
        with _connect(served) as sock:
            _dribble_until_closed(sock, b"")  # so long a stream has been open at least
        put()
        assert next(line for line in lines if line.startswith("event")) == "event: transition"


def test_a_viewer_who_reads_nothing_leaves_and_one_who_reads_stays(
    served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(punctual, "TAKE_S", 2.0)
    hub, much = served.desk.hub, Message("now", b"x" * 4_000_000)
    with served.reader.stream("GET", "/api/v1/events", timeout=20) as answer, _connect(served) as sock:
        chunks = answer.iter_bytes()
        next(chunks)
        head = f"GET /api/v1/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {served.token}\r\n\r\n"
        sock.sendall(head.encode())
        while {viewer.name for viewer in hub._viewers} != {"jo", "rea"}:
            time.sleep(0.01)
        for _ in range(10):  # more than the system keeps for a connection
            hub.tell(much)
        told, most = 0, 10 * len(much.encode())
        while told < most:
            told += len(next(chunks))
        connections = served._server.server_state.connections
        deadline = time.monotonic() + 60
        while (len(hub._viewers), len(connections)) != (1, 1) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [viewer.name for viewer in hub._viewers] == ["rea"]
        assert len(connections) == 1  # nor is what was written kept until it reads
