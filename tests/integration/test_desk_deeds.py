"""What is done in a browser is in the API, in Redis, on Kafka's topics `alerts` and `feedback`, in the audit log."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from playwright.sync_api import Page, expect
from prometheus_client import CollectorRegistry
from redis import Redis

from alerts.alert import Alert
from alerts.audit import Audit
from alerts.desk.feedback_topic import Kafka
from alerts.feedback import OUTBOX, Feedback, decode_said
from alerts.life import AlertView
from alerts.metrics import AlertsMetrics
from alerts.publish import CURSOR, SILENCE_PREFIX, KafkaPlace, Publisher
from alerts.rebuild import last_values
from alerts.silences import Silence, Silences
from alerts.store import LOG, AlertStore
from deploy.settings import KafkaSettings
from deploy.topics import ensure_topics
from tests.alerts.desk.conftest import Served
from tests.made import made_alert, made_story

pytestmark = pytest.mark.integration

TITLE = "Bank halts withdrawals as its shares plunge"


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        client.flushall()
        yield client
        client.flushall()


@pytest.fixture
def topics(kafka_bootstrap: str) -> dict[str, KafkaPlace]:
    names = {each: f"{each}-{uuid.uuid4().hex}" for each in ("alerts", "feedback")}
    ensure_topics(kafka_bootstrap, KafkaSettings(**{f"{each}_topic": name for each, name in names.items()}))
    return {each: KafkaPlace(kafka_bootstrap, {}, name) for each, name in names.items()}


@pytest.fixture
def served(redis: Redis, topics: dict[str, KafkaPlace]) -> Iterator[Served]:
    """A desk, and beside it what publishes alerts."""
    place = topics["feedback"]
    served = Served(redis, Kafka(place.bootstrap_servers, place.topic))
    publisher = Publisher(redis, topics["alerts"], AlertsMetrics(CollectorRegistry()))
    stop = threading.Event()
    thread = threading.Thread(target=publisher.run, args=(stop,), kwargs={"poll_s": 0.1})
    thread.start()
    yield served
    stop.set()
    thread.join(30)
    served.close()


def _alert() -> Alert:
    at = datetime.now(UTC).replace(microsecond=0)
    return made_alert("SIVB", at, stories=(made_story(TITLE, at),), rule="banks")


def _until(true: Callable[[], bool]) -> None:
    while not true():  # pytest's timeout ends what never comes
        time.sleep(0.05)


def test_what_an_analyst_does_in_a_browser_is_found_everywhere(
    sign_in: Callable[..., Page], served: Served, redis: Redis, topics: dict[str, KafkaPlace]
) -> None:
    page, alert = sign_in(), _alert()
    AlertStore(redis).put(alert)
    page.locator("[data-row]").click()  # it has come by itself
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.locator("#status")).to_contain_text("jo is on it")
    page.get_by_text("Silence …").click()
    page.get_by_label("Why").first.fill("known problem")
    page.get_by_role("button", name="Silence SIVB").click()
    expect(page.locator("#status")).to_contain_text("known problem (jo)")
    page.get_by_role("button", name="False alarm").click()
    expect(page.get_by_role("button", name="False alarm")).to_have_attribute("aria-pressed", "true")
    page.get_by_text("Wrong sentiment").click()
    page.get_by_label("It is").first.select_option("neutral")
    page.get_by_role("button", name="Say so").first.click()
    expect(page.get_by_role("button", name="sentiment: neutral")).to_be_visible()

    def by_jo(steps: Any) -> list[tuple[str, str]]:
        return [(step.event, step.reason) for step in steps if step.actor == "jo"]

    steps = [("acknowledged", ""), ("silenced", "known problem")]
    words = {("alert", "false_alarm", ""), ("sentiment", "neutral", TITLE)}

    full = served.client.get(f"/api/v1/alerts/{alert.id}").json()
    assert [(step["event"], step["reason"]) for step in full["transitions"] if step["actor"] == "jo"] == steps
    assert {(word["about"], word["value"], word["title"]) for word in full["said"]} == words
    (silence,) = served.client.get("/api/v1/silences").json()["silences"]
    assert (silence["author"], silence["reason"], full["life"]["silence"]) == ("jo", "known problem", silence["id"])

    view = AlertStore(redis).view(alert.id)
    assert view is not None
    assert by_jo(view.transitions) == by_jo(reversed(AlertStore(redis).log())) == steps
    assert [each.id for each in Silences(redis).all()] == [silence["id"]]
    assert {(word.about, word.value, word.title) for word in Feedback(redis).of(alert.id)} == words

    last: Any = redis.xrevrange(LOG, count=1)
    _until(lambda: redis.get(CURSOR) == last[0][0] and not redis.xlen(OUTBOX))
    records = last_values(topics["alerts"])
    published = msgspec.json.decode(records[alert.id], type=AlertView)
    assert (published.life, by_jo(published.transitions)) == (view.life, steps)
    laid = msgspec.json.decode(records[f"{SILENCE_PREFIX}{silence['id']}"], type=Silence)
    assert (laid.author, laid.reason) == ("jo", "known problem")
    said = [decode_said(raw) for raw in last_values(topics["feedback"]).values()]
    assert {(word.about, word.value, word.title) for word in said} == words
    assert {(word.by, word.alert, word.rule) for word in said} == {("jo", alert.id, "banks")}

    entries = [(each.who, each.what, each.target) for each in reversed(Audit(redis).last())]
    deeds = [("acknowledge", alert.id), ("silence", silence["id"]), ("feedback", alert.id), ("feedback", alert.id)]
    assert entries == [("jo", "sign in", ""), *(("jo", *deed) for deed in deeds)]
    assert served.client.get("/api/v1/audit").json()["entries"][0]["detail"] == f"sentiment of “{TITLE}”: neutral"
