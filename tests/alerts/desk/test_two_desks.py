"""Two desks on one Redis show the same, at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from alerts.alert import Alert


def test_what_is_done_on_one_desk_is_seen_on_the_other(serve: Callable[..., Any], put: Callable[..., Alert]) -> None:
    alert = put()
    one, two = serve(), serve()
    with one.as_(two.token) as client, client.stream("GET", "/api/v1/events", timeout=20) as live:
        lines = live.iter_lines()
        assert next(lines).startswith("retry")
        two.client.post(f"/api/v1/alerts/{alert.id}/acknowledge", json={"reason": "mine"})
        assert next(line for line in lines if line.startswith("event")) == "event: transition"
        told = json.loads(next(lines).removeprefix("data: "))
        assert (told["event"], told["actor"], told["alert"]) == ("acknowledged", "jo", alert.id)
        (listed,) = client.get("/api/v1/alerts").json()["alerts"]
        assert (listed["state"], listed["actor"]) == ("acknowledged", "jo")
        assert "jo is on it" in client.get(f"/alerts/{alert.id}").text
        assert client.get("/api/v1/audit").json()["entries"][0]["what"] == "acknowledge"
