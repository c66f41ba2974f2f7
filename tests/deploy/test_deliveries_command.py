"""`newsquake deliveries` and `receivers`: see what waits and what was given up, send it again, try a receiver."""

from __future__ import annotations

import http.server
import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import redis
from click.testing import CliRunner, Result
from standardwebhooks.webhooks import Webhook

from alerts.audit import Audit
from alerts.delivery import delivery_key, delivery_of, due_key
from alerts.digest import digest_of
from alerts.message import body_of
from alerts.notification import decode_notification
from alerts.outbox import Outbox
from alerts.trial import trial
from deploy.cli import cli

SECRET = "whsec_" + "A" * 32


def newsquake(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


def configure(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    receiver = {"type": "webhook", "name": "risk", "url": url, "secrets": [SECRET], "allow_networks": ["127.0.0.0/8"]}
    monkeypatch.setenv("NEWSQUAKE_ALERTS__RECEIVERS", json.dumps([receiver]))


def test_what_was_given_up_is_shown_and_sent_again(store: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, "https://risk.example/t0ken")
    outbox, now = Outbox(store), datetime.now(UTC)
    assert "nothing waits" in newsquake("deliveries", "list").output
    fires, over = (delivery_of(told, now.timestamp()) for told in trial("risk", now))
    for each in (fires, over):
        store.set(delivery_key(each.id), msgspec.json.encode(each))
        store.zadd(due_key("risk"), {delivery_key(each.id): each.created_s})
    outbox.give_up(msgspec.structs.replace(fires, attempts=10, reason="answered 500"), now.timestamp())

    rows = json.loads(newsquake("deliveries", "list", "--json").output)
    assert [(row["id"], row["state"], row["attempts"]) for row in rows] == [
        (over.id, "waiting", 0),
        (fires.id, "dead", 10),
    ]
    assert "answered 500" in newsquake("deliveries", "list", "--state", "dead").output
    assert json.loads(newsquake("deliveries", "list", "--alert", fires.alert, "--json").output)[0]["state"] == "dead"
    shown = json.loads(newsquake("deliveries", "show", fires.id).output)
    assert shown["notification"]["alerts"][0]["name"] == "TEST of this receiver"
    assert newsquake("deliveries", "show", "msg_unknown").exit_code == 2
    assert newsquake("deliveries", "replay").exit_code == 2
    assert newsquake("deliveries", "replay", "msg_unknown").exit_code == 2
    assert "1 delivery is due again" in newsquake("deliveries", "replay", fires.id).output
    assert outbox.waiting("risk")[0] == 2
    (entry,) = Audit(store).last()
    assert (entry.what, entry.target, entry.detail) == ("replay", fires.id, "1 deliveries")

    outbox.disable("risk", "it answered 410")
    (row,) = json.loads(newsquake("receivers", "list", "--json").output)
    assert (row["state"], row["reason"], row["waiting"], row["address"]) == (
        "disabled",
        "it answered 410",
        2,
        "https://risk.example",
    )
    assert "t0ken" not in newsquake("receivers", "list").output
    assert "risk is enabled" in newsquake("deliveries", "enable", "risk").output
    assert outbox.disabled("risk") is None
    for words in (("list", "--receiver", "nobody"), ("enable", "nobody")):
        refused = newsquake("deliveries", *words)
        assert (refused.exit_code, "there is no receiver nobody; there are: risk" in refused.output) == (2, True)


def test_a_receiver_can_be_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    taken: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            taken.append(Webhook(SECRET).verify(body, {k.lower(): v for k, v in self.headers.items()}))
            self.send_response(204 if len(taken) < 3 else 403)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        configure(monkeypatch, f"http://127.0.0.1:{server.server_port}/t0ken")
        done = newsquake("receivers", "test", "risk")
        assert done.exit_code == 0
        assert [message["type"] for message in taken] == ["alert.firing", "alert.resolved"]
        assert {message["data"]["name"] for message in taken} == {"TEST of this receiver"}
        refused = newsquake("receivers", "test", "risk")
        assert refused.exit_code == 1
        assert "answered 403" in refused.output
        assert "t0ken" not in refused.output + done.output
        assert newsquake("receivers", "test", "nobody").exit_code == 2
        server.shutdown()


def test_the_schema_of_a_webhook_s_body_holds_for_what_is_sent() -> None:
    schema = json.loads(newsquake("receivers", "schema").output)
    first, last = trial("risk", datetime.now(UTC))
    digest = digest_of([delivery_of(told, 0.0) for told in (first, last)], datetime.now(UTC))
    validator = jsonschema.Draft202012Validator(schema)
    for told in (first, last, decode_notification(digest.body)):
        validator.validate(json.loads(body_of(told)))
    assert not validator.is_valid({"type": "alert.firing", "timestamp": "2026-11-24T12:00:00Z", "data": {}})
