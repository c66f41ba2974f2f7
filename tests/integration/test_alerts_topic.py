"""Kafka's topic of alerts: everything known of each alert, from which Redis is filled again when it has lost all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import redis
from kafka import KafkaProducer
from prometheus_client import CollectorRegistry

from alerts.actions import Actions
from alerts.alert import Alert
from alerts.desk.ranking import Ranking
from alerts.feedback import OUTBOX, Feedback, said
from alerts.feedback_rebuild import FeedbackRebuild, RebuiltFeedback
from alerts.matchers import parse
from alerts.metrics import AlertsMetrics
from alerts.publish import CURSOR, SENT, KafkaPlace, Publisher
from alerts.rebuild import RebuildError, Rebuilt, last_values, lost_all, rebuild
from alerts.service import Alerting
from alerts.settings import AlertsSettings
from alerts.silences import Silence, Silences
from alerts.store import LOG, AlertStore
from deploy.settings import KafkaSettings
from deploy.topics import ensure_topics
from tests.made import made_alert

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def place(kafka_bootstrap: str, request: pytest.FixtureRequest) -> KafkaPlace:
    names = {f"{each}_topic": f"{each}-{abs(hash(request.node.name))}" for each in ("documents", "scored", "alerts")}
    ensure_topics(kafka_bootstrap, KafkaSettings(**names, partitions=1))
    return KafkaPlace(kafka_bootstrap, {}, names["alerts_topic"])


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        for key in client.scan_iter("nq:{alerts}:*"):
            client.delete(key)
        yield client
        client.flushall()


@pytest.fixture
def alert() -> Callable[..., Alert]:
    def make(number: int, **fields: Any) -> Alert:
        return made_alert(f"C{number}", NOW, **{"id": f"{number:032d}", "severity": "warning"} | fields)

    return make


def lived(client: redis.Redis, alert: Callable[..., Alert]) -> None:
    """Three alerts with a past, and a silence."""
    store, actions = AlertStore(client), Actions(client)
    for number in range(3):
        store.put(alert(number))
    actions.acknowledge(alert(0).id, "anna", "calling")
    store.put(alert(0, revision=2, severity="critical"))
    actions.annotate(alert(0).id, "anna", "they know")
    actions.resolve(alert(1).id, "ben")
    actions.annotate(alert(1).id, "ben", "not ours")
    actions.reopen(alert(1).id, "ben")
    actions.resolve(alert(1).id, "ben")
    silence = Silence(
        id="s1", matchers=parse("company=C2"), starts_at=NOW - timedelta(hours=1), ends_at=NOW + timedelta(hours=1),
        author="ben", reason="known", created_at=NOW,
    )  # fmt: skip
    actions.silence(silence, "ben")
    store.put(alert(1, revision=2, status="resolved"))


def publisher(client: redis.Redis, place: KafkaPlace) -> Publisher:
    return Publisher(client, place, AlertsMetrics(CollectorRegistry()))


def test_all_that_was_lost_comes_back_and_is_no_news(
    client: redis.Redis, place: KafkaPlace, alert: Callable[..., Alert]
) -> None:
    published = publisher(client, place)
    AlertStore(client).put(alert(0))
    while published.step():
        pass
    lived(client, alert)
    while published.step():
        pass
    before, silences = AlertStore(client).views(open=False), Silences(client).all()
    still_open = AlertStore(client).views()
    client.flushall()
    assert lost_all(client)
    assert rebuild(client, place) == Rebuilt(3, 1, 0)
    assert AlertStore(client).views(open=False) == before
    assert AlertStore(client).views() == still_open
    assert Silences(client).all() == silences
    assert AlertStore(client).log() == []
    assert rebuild(client, place) == Rebuilt(0, 0, 0)


def test_what_analysts_said_and_their_rankings_come_back(
    client: redis.Redis, place: KafkaPlace, alert: Callable[..., Alert], kafka_bootstrap: str
) -> None:
    topic = f"feedback-{abs(hash(place.topic))}"
    ensure_topics(kafka_bootstrap, KafkaSettings(feedback_topic=topic))
    store, feedback, ranking = AlertStore(client), Feedback(client), Ranking(client, on=True, after=1)
    for number in range(4):
        store.put(alert(number))
    Actions(client).acknowledge(alert(3).id, "jo")
    for who, number, value in (("jo", 0, "useful"), ("jo", 1, "false_alarm"), ("al", 0, "useful"), ("al", 1, "useful")):
        feedback.post(said(who, "alert", value, alert=alert(number).id, rule="banks", topic="Liquidity"))
    feedback.post(said("al", "alert", "", alert=alert(1).id, rule="banks", taken_back=True))
    feedback.post(said("al", "topic", "Credit", alert=alert(0).id, title="Bank falls", given="Other"))
    old = said("cy", "alert", "useful", alert=alert(2).id, rule="banks")
    feedback.post(msgspec.structs.replace(old, at=datetime.now(UTC) - timedelta(days=91)))
    while publisher(client, place).step():
        pass
    producer = KafkaProducer(bootstrap_servers=kafka_bootstrap)
    for _, fields in client.xrange(OUTBOX):
        producer.send(topic, key=fields[b"key"], value=fields[b"said"])
    producer.send(topic, key=b"x", value=b"rubbish")
    producer.flush()
    producer.close()
    client.delete(OUTBOX)
    precision, words = feedback.precision(), feedback.of(alert(0).id)

    client.flushall()
    rebuild(client, place)
    again = FeedbackRebuild(KafkaPlace(kafka_bootstrap, {}, topic), ranking=True)
    feedback.post(said("al", "alert", "", alert=alert(0).id, rule="banks", taken_back=True))  # Kafka has it not yet
    assert again.run(client) == RebuiltFeedback(words=3, acts=3, unreadable=1)
    assert [(row.name, row.useful, row.false_alarm) for row in precision] == [("banks", 2, 1), ("Liquidity", 2, 1)]
    assert [(row.name, row.useful, row.false_alarm) for row in feedback.precision()] == [
        ("banks", 1, 1),
        ("Liquidity", 1, 1),
    ]
    assert feedback.of(alert(0).id) == [word for word in words if (word.by, word.about) != ("al", "alert")]
    assert (ranking.acted("jo"), ranking.acted("al")) == (3, 0)
    assert again.run(client) == RebuiltFeedback(words=0, acts=0, unreadable=1)
    assert client.xlen(OUTBOX) == 1
    client.flushall()
    rebuild(client, place)
    assert again._replace(ranking=False).run(client) == RebuiltFeedback(words=4, acts=0, unreadable=1)


def test_an_alert_of_thousands_of_steps_and_one_too_large_hold_up_no_other(
    client: redis.Redis, place: KafkaPlace, alert: Callable[..., Alert], caplog: pytest.LogCaptureFixture
) -> None:
    store, actions = AlertStore(client), Actions(client)
    for number in range(3):
        store.put(alert(number))
    long = store.view(alert(0).id)
    assert long is not None
    steps = tuple(
        msgspec.structs.replace(long.transitions[0], key=str(n), reason="known, and said at length" * 8)
        for n in range(3_000)
    )
    life = msgspec.structs.replace(long.life, transitions=len(steps))
    assert store.restore(msgspec.structs.replace(long, life=life, transitions=steps))
    actions.acknowledge(alert(0).id, "anna")
    store.put(alert(2, revision=2, severity="critical", summary="x" * 1_100_000))
    published = publisher(client, place)
    while published.step():
        pass
    assert client.get(CURSOR) == client.xrevrange(LOG, count=1)[0][0]
    assert f"{alert(2).id} is too large" in caplog.text
    client.flushall()
    assert rebuild(client, place) == Rebuilt(2, 0, 0)
    view = store.view(alert(0).id)
    assert view is not None
    assert (view.life.state, view.life.transitions) == ("acknowledged", 3_001)
    assert [step.key for step in view.transitions[:-1]] == [*map(str, range(20)), *map(str, range(2_701, 3_000))]


def test_what_redis_has_forgotten_leaves_the_topic(
    client: redis.Redis, place: KafkaPlace, alert: Callable[..., Alert]
) -> None:
    lived(client, alert)
    publisher(client, place).step()
    assert set(last_values(place)) == {*(alert(number).id for number in range(3)), "silence:s1"}
    long_ago = (NOW - timedelta(days=91)).timestamp()
    client.zadd(SENT, {alert(0).id: long_ago, alert(2).id: long_ago})
    for kind in ("alert", "life", "history"):  # as after 90 days
        client.delete(f"nq:{{alerts}}:{kind}:{alert(0).id}")
    Silences(client).drop(["s1"])
    again = publisher(client, place)  # one that has not seen the silence
    again.step()
    assert set(last_values(place)) == {alert(1).id, alert(2).id}
    assert client.zcard(SENT) == 2
    assert again.step() is False


def test_what_redis_knows_better_stays(client: redis.Redis, place: KafkaPlace, alert: Callable[..., Alert]) -> None:
    AlertStore(client).put(alert(0))
    publisher(client, place).step()
    Actions(client).acknowledge(alert(0).id, "anna")
    assert rebuild(client, place) == Rebuilt(0, 0, 0)
    assert [view.life.state for view in AlertStore(client).views()] == ["acknowledged"]


def test_a_silence_that_was_ended_since_an_old_copy_stays_ended(
    client: redis.Redis, place: KafkaPlace, alert: Callable[..., Alert]
) -> None:
    lived(client, alert)
    old = Silences(client).all()
    Actions(client).expire_silence("s1", "ben")
    publisher(client, place).step()
    ended = Silences(client).all()
    Silences(client).put(old[0])
    assert rebuild(client, place).silences == 1
    assert Silences(client).all() == ended
    assert rebuild(client, place).silences == 0


def test_a_silence_that_was_given_a_later_end_since_an_old_copy_has_it(
    client: redis.Redis, place: KafkaPlace, alert: Callable[..., Alert]
) -> None:
    lived(client, alert)
    old = Silences(client).all()
    Actions(client).change_silence("s1", timedelta(days=3), "ben")
    publisher(client, place).step()
    changed = Silences(client).all()
    Silences(client).put(old[0])
    assert rebuild(client, place).silences == 1
    assert Silences(client).all() == changed
    Actions(client).expire_silence("s1", "ben")  # which Kafka does not know yet
    ended = Silences(client).all()
    assert rebuild(client, place).silences == 0
    assert Silences(client).all() == ended


def test_rubbish_in_the_topic_is_counted_and_left_out(
    client: redis.Redis, place: KafkaPlace, alert: Callable[..., Alert]
) -> None:
    AlertStore(client).put(alert(0))
    publisher(client, place).step()
    producer = KafkaProducer(bootstrap_servers=place.bootstrap_servers)
    for key, value in ((b"x", b"{"), (b"silence:y", b"{}"), (b"\xff", b"null"), (b"gone", None)):
        producer.send(place.topic, key=key, value=value)
    producer.flush()
    producer.close()
    client.flushall()
    assert rebuild(client, place) == Rebuilt(1, 0, 3)


def test_a_topic_that_is_not_there_is_named(client: redis.Redis, place: KafkaPlace) -> None:
    with pytest.raises(RebuildError, match=r"topic missing on .* is not there"):
        rebuild(client, place._replace(topic="missing"))


def test_alerting_fills_an_empty_redis_by_itself(
    client: redis.Redis, redis_url: str, place: KafkaPlace, alert: Callable[..., Alert]
) -> None:
    lived(client, alert)
    publisher(client, place).step()
    known = {view.alert.id: view.life for view in AlertStore(client).views()}
    client.flushall()
    alerting = Alerting(
        AlertsSettings(),
        redis_url=redis_url,
        documents_topic="documents",
        partitions=1,
        registry=CollectorRegistry(),
        kafka=place,
    )
    stop = threading.Event()
    thread = threading.Thread(target=alerting.run, args=(stop,))
    thread.start()
    try:
        while {view.alert.id: view.life for view in AlertStore(client).views()} != known:
            assert thread.is_alive()
            stop.wait(0.05)
    finally:
        stop.set()
        thread.join(30)
    assert [step.event for step in AlertStore(client).log()] == []
