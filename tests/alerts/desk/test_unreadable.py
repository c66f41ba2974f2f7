"""What another version or another hand left in Redis takes the desk from nobody: it is passed over, and said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from redis import Redis

from alerts.alert import Alert
from alerts.desk.feedback_topic import FeedbackTopic, Kafka
from alerts.desk.metrics import DeskMetrics
from alerts.feedback import OUTBOX, Feedback, said
from tests.alerts.desk.test_feedback_topic import Broker, Producer, wait_for

DEEP = b'{"x":' + b"[" * 100_000
RUBBISH = [b"\xff", b"{}", b"[]", DEEP]
SERIES = "/series?key=company%3DSIVB"
PAGES = ("/", "/alerts/{id}", "/silences", "/health", "/audit", "/api/v1/alerts/{id}", "/alerts?order=mine", SERIES)


def _strew(store: Redis, alert: Alert) -> None:
    """Put rubbish beside whatever the desk reads many of."""
    for number, raw in enumerate(RUBBISH):
        store.hset("nq:{desk}:tokens", f"{number:012x}", raw)
        store.hset("nq:{desk}:verdicts", f"v{number}", raw)
        store.hset(f"nq:{{desk}}:said:{alert.id}", f"s{number}", raw)
        store.hset("nq:{desk}:acts:jo", f"a{number}", raw)
        store.hset(f"nq:{{alerts}}:course:{alert.id}", f"b{number}", raw)
        store.hset(f"nq:{{alerts}}:told:{alert.id}", f"t{number}", raw)
        store.hset(f"nq:{{alerts}}:told:{alert.id}:counts", f"alert.digest:desk:c{number}", raw)
        store.hset("nq:{alerts}:silences", f"s{number}", raw)
        store.hset("nq:{alerts}:down", f"d{number}", raw)
        store.hset("nq:{alerts}:disabled", f"d{number}", raw)
        store.set(f"nq:{{alerts}}:alert:{number:032x}", raw)
        store.set(f"nq:{{alerts}}:life:{number:032x}", raw)
        store.sadd("nq:{alerts}:open", f"{number:032x}")
    # A time without its zone cannot be compared with others.
    word = b'{"id":"1","at":"2026-01-01T00:00:00","by":"jo","about":"alert","value":"useful"}'
    store.hset(f"nq:{{desk}}:said:{alert.id}", "naive", word)
    store.hset("nq:{desk}:verdicts", "naive", b'{"at":"2026-01-01T00:00:00","value":"useful","rule":"r","topic":"t"}')
    store.hset("nq:{desk}:acts:jo", "naive", b'{"deed":"opened","at":"2026-01-01T00:00:00","features":{}}')
    naive = (
        b'{"id":"s","matchers":[],"starts_at":"2026-01-01T00:00:00","ends_at":"2036-01-01T00:00:00",'
        b'"created_at":"2026-01-01T00:00:00","author":"x","reason":"x"}'
    )
    store.hset("nq:{alerts}:silences", "naive", naive)
    store.set("nq:{alerts}:now_s", b"yesterday")


def test_pages_are_served_and_deeds_done_beside_rubbish(
    serve: Callable[..., Any], put: Callable[..., Alert], store: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    served = serve(ranking=True, ranking_after=1)
    alert = put()
    _strew(store, alert)
    for page in PAGES:
        answer = served.client.get(page.format(id=alert.id))
        assert answer.status_code == 200, (page, answer.text[:500])
    assert served.client.post(f"/api/v1/alerts/{alert.id}/verdict", json={"verdict": "useful"}).status_code == 200
    found = served.client.get(f"/api/v1/alerts/{alert.id}").json()
    assert [word["value"] for word in found["said"]] == ["useful"]
    assert served.client.get("/api/v1/precision").json()["rows"][0]["useful"] == 1
    body = {"minutes": 5, "reason": "known"}
    assert served.client.post(f"/api/v1/alerts/{alert.id}/silence", json=body).json()["over"] == 1
    assert {token.name for token in served.desk.tokens.list()} == {"jo", "rea"}
    served.desk.tokens.add("new", "reader")
    for what in ("verdict", "word on alert", "what somebody did", "bin of the course", "silence", "is no time"):
        assert what in caplog.text


def test_a_session_that_cannot_be_read_is_over_and_one_can_sign_in_again(served: Any, store: Redis) -> None:
    with httpx.Client(base_url=served.url, trust_env=False) as client:
        client.post("/signin", data={"token": served.token})
        assert client.get("/alerts").status_code == 200
        (key,) = store.keys("nq:{desk}:session:*")
        store.set(key, b'{"name": "jo"}')
        assert client.get("/alerts").headers["location"].startswith("/signin")
        assert not store.exists(key)
        assert client.post("/signin", data={"token": served.token}).status_code == 303
        assert client.get("/alerts").status_code == 200


def test_what_analysts_say_comes_to_kafka_though_its_metrics_cannot_be_made(
    store: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker()
    broker.opened.set()
    monkeypatch.setattr(FeedbackTopic, "_producer", lambda _: Producer(broker))

    def fails(_: object) -> None:
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr(FeedbackTopic, "_watch", fails)
    topic = FeedbackTopic(store, Kafka("broker:9092"), DeskMetrics(CollectorRegistry()))
    Feedback(store).post(said("jo", "alert", "useful", alert="a"))
    topic.start()
    try:
        wait_for(lambda: not store.xlen(OUTBOX))
    finally:
        topic.stop()
    assert [value for _, value in broker.sent] == ["useful"]


def test_a_verdict_that_cannot_be_read_is_said_once(store: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """It is asked for every few seconds, and nobody takes it away."""
    feedback = Feedback(store)
    for raw in (b"{}", b"[]"):
        store.hset("nq:{desk}:verdicts", "v", raw)
        for _ in range(3):
            assert feedback.precision() == []
    assert caplog.text.count("verdict b'v' cannot be read") == 2


def test_a_time_at_the_rim_of_the_calendar_takes_no_page(served: Any, store: Redis) -> None:
    rim = b'{"at":"0001-01-01T00:00:00+05:00","who":"jo","what":"odd"}'
    store.xadd("nq:{alerts}:audit", {"entry": rim})
    silence = (
        b'{"id":"s","matchers":[{"name":"company","op":"=","value":"X"}],"starts_at":"2026-01-01T00:00:00Z",'
        b'"ends_at":"9999-12-31T23:00:00-05:00","created_at":"2026-01-01T00:00:00Z","author":"x","reason":"x"}'
    )
    store.hset("nq:{alerts}:silences", "s", silence)
    for page in ("/audit", "/api/v1/audit", "/silences", "/api/v1/silences"):
        assert served.client.get(page).status_code == 200, page
    assert "odd" in served.client.get("/audit").text
