"""What strangers, and proxies that are set up carelessly, may try."""

from __future__ import annotations

import contextlib
import math
import re
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import ValidationError
from redis import Redis
from starlette.requests import Request

from alerts.alert import Alert
from alerts.audit import entry
from alerts.desk import guard
from alerts.desk.auth import Limiter
from alerts.desk.processes import Processes
from alerts.desk.settings import ProcessSettings
from alerts.desk.visitors import from_proxy
from alerts.metrics import AlertsMetrics

_PROXY = {"proxy_header": "X-User", "trusted_proxies": ("127.0.0.0/8",), "proxy_analysts": ("ana",)}


def _anonymous(served: Any, *headers: tuple[str, str]) -> httpx.Client:
    return httpx.Client(base_url=served.url, headers=list(headers), trust_env=False)


def test_who_invents_addresses_is_limited_and_written_down_by_the_one_that_the_proxy_saw(
    serve: Callable[..., Any],
) -> None:
    served = serve(logins_a_minute=2, trusted_proxies=("127.0.0.0/8",))
    answers = []
    for n in range(8):
        invented, seen = ("x-forwarded-for", f"203.0.113.{n}"), ("x-forwarded-for", "198.51.100.7")
        with _anonymous(served, invented, seen) as client:
            answers.append(client.post("/signin", data={"token": "nqd_wrong"}).status_code)
    assert 429 in answers  # 8 in at most two minutes
    entries = served.client.get("/api/v1/audit").json()["entries"]
    assert {entry["address"] for entry in entries} == {"198.51.100.7"}


@pytest.mark.parametrize(
    ("peer", "trusted", "believed"),
    [
        ("::ffff:10.0.0.1", "10.0.0.0/8", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.1", True),
        ("::ffff:11.0.0.1", "10.0.0.0/8", False),
        ("::10.0.0.1", "10.0.0.0/8", False),
    ],
)
def test_a_proxy_is_known_when_one_socket_takes_both_versions_of_ip(
    serve: Callable[..., Any], peer: str, trusted: str, believed: bool
) -> None:
    app = serve(trusted_proxies=(trusted,)).app
    assert from_proxy(Request({"type": "http", "app": app, "client": (peer, 1), "headers": []})) is believed


def test_a_name_beside_the_proxys_own_is_not_believed(serve: Callable[..., Any]) -> None:
    with _anonymous(serve(**_PROXY), ("x-user", "ana"), ("x-user", "bo")) as client:
        assert client.get("/api/v1/me").status_code == 401


def test_a_session_begun_by_a_proxy_holds_as_long_as_the_proxy_says_so(serve: Callable[..., Any]) -> None:
    served = serve(**_PROXY)
    with _anonymous(served, ("x-user", "ana")) as client:
        assert client.get("/api/v1/me").json()["role"] == "analyst"
        cookie = client.cookies["nq_session"]
    with _anonymous(served, ("cookie", f"nq_session={cookie}")) as client:
        assert client.get("/api/v1/me").status_code == 401
    demoted = serve(**_PROXY | {"proxy_analysts": ()})
    with _anonymous(demoted, ("cookie", f"nq_session={cookie}"), ("x-user", "ana")) as client:
        assert client.get("/api/v1/me").json()["role"] == "reader"


def test_a_program_behind_a_proxy_fills_neither_the_log_nor_redis(serve: Callable[..., Any], store: Redis) -> None:
    served = serve(**_PROXY)
    for _ in range(5):
        with _anonymous(served, ("x-user", "ana")) as client:
            assert client.get("/api/v1/me").status_code == 200
    assert len(served.client.get("/api/v1/audit").json()["entries"]) == 1
    assert all(store.ttl(key) <= 300 for key in store.keys("nq:{desk}:session:*"))


def test_strangers_cannot_push_deeds_out_of_the_audit_log(served: Any, put: Callable[..., Alert], store: Redis) -> None:
    served.client.post(f"/api/v1/alerts/{put().id}/acknowledge", json={})
    deeds = store.xlen("nq:{alerts}:audit")
    for n in range(300):
        served.desk.audit.write(entry("", "sign in refused", address=str(n)))
    assert store.xlen("nq:{alerts}:audit") == deeds
    shown = served.client.get("/api/v1/audit?limit=400").json()["entries"]
    assert [entry["what"] for entry in shown][-1] == "acknowledge"
    assert len(shown) == deeds + 300


def test_an_entry_that_cannot_be_read_breaks_no_audit_log(served: Any, put: Callable[..., Alert], store: Redis) -> None:
    served.client.post(f"/api/v1/alerts/{put().id}/acknowledge", json={})
    for fields in ({"entry": b"\xff"}, {"entry": b'{"who": 1}'}, {"other": b"1"}):
        store.xadd("nq:{alerts}:audit", fields)
    assert "acknowledge" in served.client.get("/audit").text
    assert [entry["what"] for entry in served.client.get("/api/v1/audit").json()["entries"]] == ["acknowledge"]


@pytest.mark.parametrize("path", ["/", "/alerts", "/nowhere"])
def test_a_proxy_that_names_the_system_is_refused_whatever_cookie_comes_with_it(
    serve: Callable[..., Any], path: str
) -> None:
    with _anonymous(serve(**_PROXY), ("x-user", "newsquake"), ("cookie", "nq_session=any")) as client:
        assert client.get(path).status_code == (404 if path == "/nowhere" else 403)


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("not an address", "another", False),
    ],
)
def test_attempts_count_by_address_and_with_ipv6_by_network(
    store: Redis, first: str, second: str, together: bool
) -> None:
    limiter = Limiter(store, 1, lambda: 1_000_000.0)
    assert limiter.allows(first)
    assert limiter.allows(second) is not together


def test_a_page_that_only_stays_open_does_not_keep_its_session(served: Any, store: Redis) -> None:
    with _anonymous(served) as client:
        client.post("/signin", data={"token": served.token})
        (key,) = store.keys("nq:{desk}:session:*")
        store.expire(key, 30)
        with client.stream("GET", "/api/v1/events", timeout=20) as answer:
            assert answer.status_code == 200
        client.get("/alerts", headers={"x-refresh": "1"})
        assert store.ttl(key) <= 30
        client.get("/alerts")
        assert store.ttl(key) > 30


def test_forms_work_behind_a_proxy_that_names_another_host(serve: Callable[..., Any]) -> None:
    served = serve(url="https://desk.bank.example")
    for origin, status in (("https://desk.bank.example", 303), ("https://evil.example", 403), ("http://[", 403)):
        with _anonymous(served, ("origin", origin)) as client:
            assert client.post("/signin", data={"token": served.token}).status_code == status


def test_half_a_request_does_nothing_and_a_slow_one_is_cut_off(
    served: Any, put: Callable[..., Alert], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "MAX_BODY_S", 0.3)
    path = f"/api/v1/alerts/{put().id}"
    address = re.sub("http://", "", served.url).split(":")
    head = (
        f"POST {path}/acknowledge HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {served.token}\r\n"
        "content-type: application/json\r\ncontent-length: 100\r\n\r\n{}"
    )
    with socket.create_connection((address[0], int(address[1])), timeout=20) as connection:
        connection.sendall(head.encode())
        assert b" 408 " in connection.recv(4_096)
    with socket.create_connection((address[0], int(address[1])), timeout=20) as connection:
        connection.sendall(head.encode())
    assert served.client.get(path).json()["life"]["state"] == "firing"


def test_a_correction_is_of_the_headline_that_was_seen(
    served: Any, put: Callable[..., Alert], store: Redis, alert: Alert
) -> None:
    titles = ("Bank fails", "Bank is rescued", "Bank's logo is new")
    stories = tuple(msgspec.structs.replace(alert.stories[0], title=title) for title in titles)
    made = put(stories=stories)
    path = f"/api/v1/alerts/{made.id}/correction"
    seen = {"story": 0, "title": "Bank is rescued", "about": "sentiment", "label": "positive"}
    assert served.client.post(path, json=seen).json()["title"] == "Bank is rescued"
    assert served.client.post(path, json=seen | {"story": 99}).json()["title"] == "Bank is rescued"
    assert served.client.post(path, json=seen | {"title": "Gone"}).status_code == 409
    assert served.client.post(path, json={"story": 99, "about": "topic"}).status_code == 404
    assert 'name="title" value="Bank&#39;s logo is new"' in served.client.get(f"/alerts/{made.id}").text


@contextlib.contextmanager
def process(metrics: bytes) -> Iterator[str]:
    """The address of a process that is well and serves these metrics."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"live": true, "ready": true}' if self.path == "/healthz" else metrics)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_health_page_names_who_is_told_late(served: Any) -> None:
    registry = CollectorRegistry()
    metrics = AlertsMetrics(registry)
    for name, late_s in {"mail": 1.0, "risk": 240.0, "desk": 11.0}.items():
        metrics.oldest_due_seconds.labels(receiver=name).set(late_s)
    with process(generate_latest(registry)) as url:
        served.desk.processes = Processes({"alerts": url})
        page = served.client.get("/health").text
    assert "<strong>risk</strong>" in page
    assert "has been due for 240 s" in page
    report = served.client.get("/api/v1/health").json()["report"]
    assert report["late"] == {"desk": 11.0, "risk": 240.0}
    assert report["outbox"]["oldest_due_s"] == 240.0


def test_a_process_with_odd_metrics_or_none_does_not_break_the_health_page() -> None:
    odd = b'newsquake_stream_lag_records{partition="0"} NaN\nnewsquake_ingest_documents_total{source="a"} 3\n'
    with process(odd) as url:
        report = Processes({"odd": url, "none": "http://127.0.0.1:9"}).report()
    assert [process.state for process in report.processes] == ["ready", "down"]
    assert report.lag == {}
    assert [(source.name, source.documents) for source in report.sources] == [("a", 3)]
    assert report.behind_s is None or math.isfinite(report.behind_s)


def test_who_waits_for_a_process_that_hangs_holds_up_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = Processes({})
    first = processes.report()
    monkeypatch.setattr("alerts.desk.processes._KEPT_S", -1.0)
    asked, answer = threading.Event(), threading.Event()

    def hang() -> Any:
        asked.set()
        answer.wait(20)
        return first

    monkeypatch.setattr(processes, "_ask", hang)
    waiting = threading.Thread(target=processes.report)
    waiting.start()
    assert asked.wait(20)
    assert processes.report() is first  # while the other waits
    answer.set()
    waiting.join(20)


def test_a_processs_address_holds_no_password() -> None:
    with pytest.raises(ValidationError):
        ProcessSettings(name="", url="http://user:secret@stream-1:9410")
