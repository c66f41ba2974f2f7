"""No secret is in any log, page, answer, metric or list, whatever receivers and servers do."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from redis import Redis

from alerts.alert import Alert
from alerts.outbox import Outbox
from alerts.store import AlertStore
from deploy.local.ports import free_ports
from deploy.local.servers import LocalValkey
from tests.alerts.conftest import Hooks
from tests.made import made_alert

pytestmark = pytest.mark.integration

MARK = "hush"
"""Every secret has this in it."""
PAGES = ("/", "/alerts", "/stream", "/silences", "/health", "/audit", "/signin", "/nowhere")
CALLS = ("me", "now", "alerts", "precision", "silences", "stream", "health", "audit")
ANSWERS: dict[str, Any] = {
    "webhook": (302, {"location": f"https://127.0.0.1:1/{MARK}"}),
    "slack": 404,  # and it repeats what was asked for
    "teams": "reset",
    "pagerduty": 404,
    "alertmanager": 401,
    "feishu": 200,
    "dingtalk": 204,  # its certificate is another's
}


@pytest.fixture
def hooks() -> Iterator[dict[str, Hooks]]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("another.example").configure_cert(tls)
    with contextlib.ExitStack() as stack:
        made = {name: Hooks(tls if name == "dingtalk" else None) for name in ANSWERS}
        for name, each in made.items():
            stack.callback(each.close)
            each.usual = ANSWERS[name]
        made["slack"].body = f"Cannot POST /{MARK}?token={MARK}".encode()
        yield made


def _receivers(hooks: dict[str, Hooks], nobody: int) -> list[dict[str, Any]]:
    urls = {name: each.url.replace("/hook?token=hidden", f"/{MARK}?token={MARK}") for name, each in hooks.items()}
    urls["wecom"] = f"http://127.0.0.1:{nobody}/{MARK}?key={MARK}"
    more: dict[str, dict[str, Any]] = {
        "webhook": {"secrets": [f"whsec_{MARK}" + "A" * 28]},
        "pagerduty": {"routing_key": MARK + "A" * 28},
        "alertmanager": {"username": "risk", "password": f"{MARK}-am", "url": urls["alertmanager"].partition("?")[0]},
        "feishu": {"secret": f"{MARK}-feishu"},
        "dingtalk": {"secret": f"SEC{MARK}"},
    }
    made = [{"type": name, "url": url, **more.get(name, {})} for name, url in urls.items()]
    mail = {"host": "127.0.0.1", "port": nobody, "sender": "nq@bank.example", "to": ["desk@bank.example"]}
    made.append({"type": "email", **mail, "username": "nq", "password": f"{MARK}-mail"})
    return [{**each, "name": each["type"], "allow_networks": ["127.0.0.0/8"]} for each in made]


def _alert(number: int) -> Alert:
    return made_alert(f"C{number}", datetime.now(UTC).replace(microsecond=0), id=f"{number:032x}")


class Run:
    """Commands of newsquake, as a user runs them, with all that they print."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self._folder, self._env = folder, {**os.environ, "COLUMNS": "300", **env}
        self._command = [sys.executable, "-c", "from deploy.cli import main; main()"]
        self.log = folder / "log"

    def done(self, *words: str) -> str:
        command, where = [*self._command, *words], {"env": self._env, "cwd": self._folder}
        found = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, **where)
        assert found.returncode == 0, found.stderr
        return found.stdout + found.stderr

    @contextlib.contextmanager
    def going(self, *words: str) -> Iterator[None]:
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                [*self._command, *words], env=self._env, cwd=self._folder, stdout=output, stderr=subprocess.STDOUT
            )
        try:
            yield
        finally:
            process.terminate()
            process.wait(60)

    def until(self, true: Callable[[], object]) -> None:
        end = time.monotonic() + 90
        while not true():
            assert time.monotonic() < end, self.log.read_text()[-5_000:]
            time.sleep(0.1)


def test_no_secret_is_said_anywhere(
    make_valkey: Callable[[], LocalValkey], hooks: dict[str, Hooks], tmp_path: Path
) -> None:
    valkey = make_valkey()
    valkey.start()
    nobody, desk_port, desk_metrics, alerts_metrics = free_ports(4)
    url = valkey.url.replace("redis://", f"redis://:{MARK}-redis@")
    with Redis.from_url(valkey.url) as plain:
        plain.config_set("requirepass", f"{MARK}-redis")
    run = Run(
        tmp_path,
        {
            "NEWSQUAKE_LOG__LEVEL": "DEBUG",
            "NEWSQUAKE_REDIS__URL": url,
            "NEWSQUAKE_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{nobody}",
            "NEWSQUAKE_KAFKA__SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "NEWSQUAKE_KAFKA__SASL_USERNAME": "nq",
            "NEWSQUAKE_KAFKA__SASL_PASSWORD": f"{MARK}-kafka",
            "NEWSQUAKE_HTTP__DESK_PORT": str(desk_metrics),
            "NEWSQUAKE_HTTP__ALERTS_PORT": str(alerts_metrics),
            "NEWSQUAKE_ALERTS__EXPLAIN": "false",
            "NEWSQUAKE_ALERTS__RECEIVERS": json.dumps(_receivers(hooks, nobody)),
        },
    )
    token = run.done("desk", "token", "add", "jo", "--role", "analyst").split()[-1]
    said: dict[str, str] = {}
    page = f"http://127.0.0.1:{desk_port}"
    with (
        Redis.from_url(url) as redis,
        run.going("alerts"),
        run.going("desk", "--port", str(desk_port)),
        httpx.Client(base_url=page, trust_env=False, timeout=20) as desk,
    ):
        store, outbox, alert = AlertStore(redis), Outbox(redis), _alert(1)
        store.put(alert)

        def is_up() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return desk.get("/signin").status_code == 200
            return False

        run.until(is_up)
        names = {*ANSWERS, "wecom", "email"}
        run.until(lambda: {line.receiver for line in outbox.told(alert.id) if line.attempts} == names)
        wrong = desk.post("/signin", data={"token": f"nqd_0123456789ab_{MARK}"})
        assert (wrong.status_code, MARK in wrong.text) == (403, False)
        assert desk.post("/signin", data={"token": token}).status_code == 303
        cookie = desk.cookies["nq_session"]
        for path in (*PAGES, f"/alerts/{alert.id}", *(f"/api/v1/{call}" for call in (*CALLS, f"alerts/{alert.id}"))):
            said[path] = desk.get(path).text
        assert "a redirect, which is not followed" in said[f"/alerts/{alert.id}"]
        for port in (desk_metrics, alerts_metrics):
            for path in ("/metrics", "/healthz"):
                said[f"{port}{path}"] = httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False).text
        for words in (("receivers", "list"), ("receivers", "list", "--json"), ("deliveries", "list", "--json")):
            said[" ".join(words)] = run.done(*words)
        for queued in outbox.queued("webhook"):
            said[queued.delivery.id] = run.done("deliveries", "show", queued.delivery.id)
        assert "newsquake_alerts_deliveries_total" in said[f"{alerts_metrics}/metrics"]

        valkey.kill()
        said["/ without Redis"] = desk.get("/").text
        run.until(lambda: run.log.read_text().count("Redis failed") > 3)
    said["log"] = run.log.read_text()
    assert all(f" to {name} (" in said["log"] for name in names), said["log"]
    assert "127.0.0.1" in said["log"]
    basic = base64.b64encode(f"risk:{MARK}-am".encode()).decode()
    for where, text in said.items():
        for secret in (MARK, basic, token, token.rpartition("_")[2], cookie):
            assert secret not in text, (where, secret)
