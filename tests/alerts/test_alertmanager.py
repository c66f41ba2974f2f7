"""An alert's life in a real Alertmanager: what it takes, what it then shows, and what it tells its own receivers."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from alerts.alert import Alert, By, Event
from alerts.notification import Notification, notification_id
from tests.alerts.test_channels import channel


def eventually(condition: Callable[[], object]) -> None:
    """Wait until a condition is true; fail after a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


@pytest.fixture
def manager(service_program: Callable[[str, str], str], hooks: Any, tmp_path: Path) -> Iterator[str]:
    """The URL of an Alertmanager that tells `hooks` of everything at once."""
    program = service_program("prometheus-alertmanager", "prometheus-alertmanager")
    hooks.usual = 200
    (tmp_path / "alertmanager.yml").write_text(
        "route: {receiver: hooks, group_by: [alert_id], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}\n"
        f"receivers: [{{name: hooks, webhook_configs: [{{url: '{hooks.url}', send_resolved: true}}]}}]\n"
    )
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    process = subprocess.Popen(
        [program, f"--config.file={tmp_path}/alertmanager.yml", f"--storage.path={tmp_path}/data",
         f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        assert process.poll() is None, "it did not start"
        try:
            return httpx.get(f"{url}/-/ready", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    eventually(ready)
    yield url
    process.kill()
    process.wait()


async def test_an_alert_fires_grows_and_is_over_in_a_real_alertmanager(manager: str, hooks: Any, alert: Alert) -> None:
    def shown() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = httpx.get(f"{manager}/api/v2/alerts", trust_env=False).json()
        return found

    def passed_on() -> list[list[tuple[str, str]]]:
        posts = [json.loads(body)["alerts"] for _, body in hooks.requests]
        return [sorted((one["status"], one["labels"]["severity"]) for one in alerts) for alerts in posts]

    now = datetime.now(UTC) - timedelta(minutes=1)
    mild = msgspec.structs.replace(alert, severity="warning", started_at=now, updated_at=now, expected_false_share=0.12)
    grown = msgspec.structs.replace(mild, severity="critical", revision=2)
    over = msgspec.structs.replace(grown, status="resolved", revision=3, resolved_at=now + timedelta(seconds=30))
    by = {alert.id: By(actor="ana", at=now, reason="calling the bank")}
    out = channel("alertmanager", manager, labels={"team": "risk"})

    async def tell(event: Event, state: Alert, by: dict[str, By] | None = None) -> None:
        ident = notification_id(event, str(state.revision))
        told = Notification(id=ident, receiver="am", event=event, alerts=(state,), at=now, by=by or {})
        assert await out.send(told, now) == await out.send(told, now)
        assert (await out.send(told, now)).outcome == "delivered"

    await tell("alert.firing", mild)
    (fires,) = shown()
    assert fires["labels"]["severity"] == "warning"
    assert fires["annotations"]["expected_false"] == "12% of alerts like it"
    eventually(passed_on)
    assert passed_on()[0] == [("firing", "warning")]  # and no critical that is over and never was

    await tell("alert.escalated", grown)
    assert [one["labels"]["severity"] for one in shown()] == ["critical"]
    await tell("alert.acknowledged", grown, by)
    await tell("alert.firing", grown, by)
    assert shown()[0]["annotations"]["no_longer_acknowledged"].startswith("by ana")

    await tell("alert.resolved", over)
    assert shown() == []
    eventually(lambda: passed_on()[-1] == [("resolved", "critical"), ("resolved", "warning")])
