"""`/healthz` and `/metrics` as a supervisor and Prometheus see them, and as strangers may not keep them."""

import contextlib
import io
import json
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry

from alerts import small_server
from alerts.listen import Receiver
from deploy import health


@pytest.fixture
def process():
    """A process whose health the test sets: `state`, and `get(path)` → status, body."""

    class Process:
        state = ([], [])

        def __init__(self):
            self.server = health.serve("127.0.0.1", 0, CollectorRegistry(), lambda: self.state)

        def get(self, path):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.server.server_port}{path}", timeout=10) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as exc:
                with exc:
                    return exc.code, exc.read().decode()

    running = Process()
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.mark.parametrize(
    ("state", "status", "live_status", "live", "ready"),
    [
        (([], []), 200, 200, 1, 1),
        (([], ["catching up"]), 503, 200, 1, 0),
        ((["stalled"], []), 503, 503, 0, 0),
    ],
)
def test_health_is_said_the_same_way_to_supervisors_and_to_prometheus(process, state, status, live_status, live, ready):
    process.state = state
    got, body = process.get("/healthz")
    assert got == status
    assert json.loads(body) == {"live": bool(live), "ready": bool(ready), "reasons": state[0] + state[1]}
    assert process.get("/healthz?live")[0] == live_status
    metrics = process.get("/metrics")[1].splitlines()
    assert f"newsquake_process_live {live}.0" in metrics
    assert f"newsquake_process_ready {ready}.0" in metrics
    assert any(line.startswith("process_resident_memory_bytes ") for line in metrics)
    assert any(line.startswith('newsquake_build_info{version="') for line in metrics)


def test_other_paths_are_not_served(process):
    assert process.get("/etc/passwd")[0] == 404


def test_what_is_no_fault_is_told_too_and_stays_ready() -> None:
    server = health.serve("127.0.0.1", 0, CollectorRegistry(), lambda: ([], []), lambda: ["standing by"])
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/healthz") as answer:
            assert json.load(answer) == {"live": True, "ready": True, "reasons": [], "notes": ["standing by"]}
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(params=["health", "listen"])
def small(request):
    """Starts each server whose strangers may send what they like, and gives its address."""
    started = []

    def start():
        if request.param == "health":
            started.append(health.serve("127.0.0.1", 0, CollectorRegistry(), lambda: ([], [])))
        else:
            started.append(Receiver("127.0.0.1", 0, "whsec_" + "A" * 32, io.StringIO()))
            threading.Thread(target=started[0].serve_forever, daemon=True).start()
        return "127.0.0.1", started[0].server_port

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def test_connections_beyond_a_few_are_closed_and_the_others_served(small, monkeypatch, caplog):
    monkeypatch.setattr(small_server, "CONNECTIONS", 2)
    address = small()
    with socket.create_connection(address) as one, socket.create_connection(address):
        with socket.create_connection(address, timeout=30) as third, contextlib.suppress(ConnectionResetError):
            assert third.recv(1) == b""
        one.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert one.recv(12) == b"HTTP/1.0 200"
    assert "was closed: 2 are open" in caplog.text


def test_who_dribbles_a_request_is_cut_off_without_a_trace(small, monkeypatch, capfd):
    monkeypatch.setattr(small_server, "REQUEST_S", 0.5)
    with socket.create_connection(small()) as connection, pytest.raises(ConnectionError):
        for _ in range(400):
            connection.sendall(b"x")
            time.sleep(0.05)
    assert "Traceback" not in capfd.readouterr().err
