"""`/healthz` and `/metrics` of a process, as a supervisor and Prometheus see them."""

import json
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry

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
