"""Deliveries reach their receivers once or more, in order, or end in the dead list with a reason."""

from __future__ import annotations

import ipaddress
import json
import logging
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import msgspec
import pytest
import redis
from prometheus_client import CollectorRegistry
from pydantic import ValidationError
from standardwebhooks.webhooks import Webhook

from alerts import addresses
from alerts.alert import Alert, Event, Message
from alerts.channels import channel
from alerts.channels.channel import Answer, HttpChannel
from alerts.channels.table import channel_of
from alerts.message import decode_message
from alerts.metrics import AlertsMetrics
from alerts.notification import Notification, notification_id
from alerts.outbox import Delivery, Outbox, delivery_key, delivery_of, due_key
from alerts.receivers import WebhookReceiver
from alerts.sender import KEEP_S, RETRY_S, Sender

NOW = 1_700_000_000.0


def deliveries(event: Event, alert: Alert, receivers: list[str], now_s: float) -> list[Delivery]:
    """Return the deliveries of a transition to these receivers; ids are the same whenever it is made again."""
    found = []
    for receiver in receivers:
        told = Notification(
            id=notification_id(alert.id, event, receiver),
            receiver=receiver,
            event=event,
            alerts=(alert,),
            at=alert.updated_at,
        )
        first = notification_id(alert.id, "alert.firing", receiver)
        found.append(delivery_of(told, now_s, after=[first] if event == "alert.resolved" else []))
    return found


def queue(store: redis.Redis, messages: list[Delivery], now_s: float) -> None:
    """Put deliveries into the outbox, as the dispatcher does."""
    for message in messages:
        if store.set(delivery_key(message.id), msgspec.json.encode(message), nx=True):
            store.zadd(due_key(message.receiver), {delivery_key(message.id): now_s})


class Rig:
    """A sender with a clock that tests move."""

    def __init__(
        self, store: redis.Redis, url: str, secret: str, allowed: tuple[str, ...] = ("127.0.0.0/8",), **more: Any
    ) -> None:
        given = {"name": "desk", "url": url, "secrets": [secret], "allow_networks": allowed, **more}
        self.settings = WebhookReceiver.model_validate(given)
        self.outbox = Outbox(store)
        self.redis = store
        self.now = NOW
        self.registry = CollectorRegistry()
        self.sender = Sender(channel_of(self.settings), self.outbox, AlertsMetrics(self.registry), lambda: self.now)

    def fire(self, alert: Alert) -> None:
        queue(self.redis, deliveries("alert.firing", alert, ["desk"], self.now), self.now)

    def resolve(self, alert: Alert) -> None:
        done = msgspec.structs.replace(alert, revision=alert.revision + 1, status="resolved")
        queue(self.redis, deliveries("alert.resolved", done, ["desk"], self.now), self.now)

    def count(self, outcome: str) -> float | None:
        return self.registry.get_sample_value(
            "newsquake_alerts_deliveries_total", {"receiver": self.settings.name, "outcome": outcome}
        )


@pytest.fixture
def rig(store: redis.Redis, hooks: Any, secret: str) -> Rig:
    return Rig(store, hooks.url, secret)


def test_a_receiver_can_verify_what_it_gets(rig: Rig, hooks: Any, secret: str, alert: Alert) -> None:
    rig.now = datetime.now(UTC).timestamp()  # receivers refuse what was signed long ago
    rig.fire(alert)
    assert rig.sender.step()
    ((headers, body),) = hooks.requests
    message = Webhook(secret).verify(body, headers)
    assert message["type"] == "alert.firing"
    assert message["data"]["summary"] == alert.summary
    assert headers["content-type"] == "application/json"
    assert rig.outbox.waiting("desk") == (0, None)
    assert not rig.sender.step()


def test_failures_are_tried_again_on_the_schedule_and_end_in_the_dead_list(rig: Rig, hooks: Any, alert: Alert) -> None:
    hooks.answers = [500, "reset", 404, 302, 503, 500, 500, 500, 500, 500]
    rig.fire(alert)
    for wait_s in RETRY_S:
        _, due = rig.outbox.waiting("desk")
        assert due is not None
        assert wait_s <= due - rig.now <= 1.2 * wait_s + 0.001
        rig.now = due + 0.001
        assert rig.sender.step()
    assert len(hooks.requests) == 10
    assert len({headers["webhook-id"] for headers, _ in hooks.requests}) == 1
    assert rig.outbox.waiting("desk") == (0, None)
    (dead,) = rig.outbox.dead()
    assert (dead.attempts, dead.reason) == (10, "the receiver answered 500")
    assert (rig.count("failed"), rig.count("dead")) == (9, 1)
    (told,) = rig.outbox.told(alert.id)
    assert (told.status, told.attempts, told.receiver) == ("dead", 10, "desk")
    assert rig.outbox.revive(lambda _: True, rig.now) == 1
    rig.now += 600
    assert rig.sender.step()
    assert (rig.outbox.dead_count(), rig.count("delivered")) == (0, 1)
    assert [line.status for line in rig.outbox.told(alert.id)] == ["delivered"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((302, {"location": "http://127.0.0.1:1/"}), "a redirect, which is not followed"),
        ("reset", "Error"),
        ("slow", "no answer within"),
        (400, "answered 400"),
    ],
)
def test_a_failure_is_kept_with_its_reason_and_without_secrets(
    rig: Rig,
    hooks: Any,
    alert: Alert,
    answer: Any,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    hooks.answers = [answer]
    rig.fire(alert)
    with caplog.at_level(logging.DEBUG, logger="alerts"), monkeypatch.context() as patch:
        patch.setattr(channel, "TIMEOUT_S", 2.0 if answer == "slow" else 15.0)
        rig.sender.step()
    assert rig.outbox.waiting("desk")[0] == 1
    assert len(hooks.requests) == 1
    assert reason in caplog.text
    assert "token" not in caplog.text
    rig.now += 7
    rig.sender.step()
    assert rig.outbox.waiting("desk")[0] == 0


@pytest.mark.parametrize(
    "value", ["3600", format_datetime(datetime.fromtimestamp(NOW + 3600, UTC), usegmt=True)], ids=["seconds", "date"]
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(rig: Rig, hooks: Any, alert: Alert, value: str, status: int) -> None:
    hooks.answers = [(status, {"Retry-After": value})]
    rig.fire(alert)
    rig.sender.step()
    assert rig.outbox.waiting("desk")[1] == pytest.approx(NOW + 3600, abs=1)


@pytest.mark.parametrize("value", ["-5", "soon", "9" * 400, "Wed, 99 Foo 2099"])
def test_a_senseless_retry_after_does_no_harm(rig: Rig, hooks: Any, alert: Alert, value: str) -> None:
    hooks.answers = [(429, {"Retry-After": value})]
    rig.fire(alert)
    rig.sender.step()
    due = rig.outbox.waiting("desk")[1]
    assert due is not None
    assert NOW < due <= NOW + 86_400


def test_gone_disables_the_endpoint_until_it_is_enabled(rig: Rig, hooks: Any, alert: Alert) -> None:
    hooks.answers = [410]
    rig.fire(alert)
    rig.resolve(alert)
    while rig.sender.step():
        rig.now += 1
    rig.now += 1
    while rig.sender.step():
        pass
    assert len(hooks.requests) == 1
    assert ["410" in delivery.reason for delivery in rig.outbox.dead()] == [True, True]
    rig.outbox.enable("desk")
    assert rig.outbox.revive(lambda _: True, rig.now) == 2
    for _ in range(4):
        rig.sender.step()
        rig.now += 1
    assert [json.loads(body)["type"] for _, body in hooks.requests[1:]] == ["alert.firing", "alert.resolved"]


def test_resolved_never_overtakes_firing(rig: Rig, hooks: Any, alert: Alert) -> None:
    hooks.answers = [500, 500]
    rig.fire(alert)
    rig.sender.step()
    rig.resolve(alert)
    for _ in range(1_000):
        if not rig.outbox.waiting("desk")[0]:
            break
        rig.sender.step()
        rig.now += 1
    kinds = [json.loads(body)["type"] for _, body in hooks.requests]
    assert kinds == ["alert.firing"] * 3 + ["alert.resolved"]


def test_a_crash_after_the_answer_repeats_the_same_id(
    rig: Rig, hooks: Any, alert: Alert, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.fire(alert)
    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "done", lambda *_: (_ for _ in ()).throw(redis.ConnectionError("gone")))
        with pytest.raises(redis.ConnectionError):
            rig.sender.step()
    assert rig.sender.step()
    assert not rig.sender.step()
    assert [headers["webhook-id"] for headers, _ in hooks.requests] == [hooks.requests[0][0]["webhook-id"]] * 2


def test_a_slow_receiver_delays_no_other(store: redis.Redis, hooks: Any, secret: str, alert: Alert) -> None:
    slow = Rig(store, hooks.url.replace("/hook", "/slow"), secret, name="slow")
    quick = Rig(store, hooks.url, secret)
    hooks.answers = ["slow"]
    both = deliveries("alert.firing", alert, ["slow", "desk"], NOW)
    queue(store, both, NOW)
    stop = threading.Event()
    thread = threading.Thread(target=slow.sender.run, args=(stop,))
    thread.start()
    while not hooks.requests:
        stop.wait(0.01)
    assert quick.sender.step()
    assert quick.count("delivered") == 1
    assert slow.count("delivered") == 0
    stop.set()
    hooks.release.set()
    thread.join()


@pytest.mark.parametrize(
    ("url", "resolved"),
    [
        ("http://127.0.0.1:9/", None),
        ("http://[::1]:9/", None),
        ("http://[::ffff:10.0.0.1]:9/", None),
        ("https://hooks.example/", "169.254.169.254"),
        ("https://hooks.example/", "10.1.2.3"),
        ("https://hooks.example/", "64:ff9b::a9fe:a9fe"),
        ("https://hooks.example/", "fe80::1%eth0"),
        ("https://hooks.example/", "fec0::1"),
        ("https://hooks.example/", "::127.0.0.1"),
        ("https://hooks.example/", "2002:7f00:1::1"),
        ("https://hooks.example/", "224.0.0.1"),
    ],
)
def test_addresses_inside_are_refused(
    store: redis.Redis, secret: str, alert: Alert, url: str, resolved: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if resolved:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", (resolved, 443))])
    rig = Rig(store, url, secret, allowed=())
    rig.fire(alert)
    rig.sender.step()
    assert rig.count("failed") == 1  # and tried again, so that a setting mended in time loses nothing
    waiting = rig.outbox.queued("desk")[0].delivery
    assert "is not public" in waiting.reason


def test_the_connection_goes_to_the_address_that_was_checked(
    store: redis.Redis, hooks: Any, secret: str, alert: Alert, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = hooks.server.server_port
    answers = iter(["127.0.0.1", "10.9.9.9"])  # a name that changes between check and use
    real = socket.getaddrinfo

    def resolve(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host == "rebinding.example":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(addresses, "is_allowed", lambda *_: True)
    rig = Rig(store, f"http://rebinding.example:{port}/hook", secret, allowed=())
    rig.fire(alert)
    assert rig.sender.step()
    assert rig.count("delivered") == 1
    assert hooks.requests[0][0]["host"] == f"rebinding.example:{port}"


def test_what_waits_for_a_removed_endpoint_is_given_up_with_the_reason(rig: Rig, alert: Alert) -> None:
    rig.fire(alert)
    rig.resolve(alert)
    assert rig.outbox.drop_unknown(["desk"], NOW) == 0
    assert rig.outbox.drop_unknown(["another"], NOW) == 2
    assert {dead.reason for dead in rig.outbox.dead()} == {"its receiver is configured no more"}


@pytest.mark.parametrize("bad", ["", "secret", "whsec_", "whsec_c2hvcnQ=", "whsec_!!!!"])
def test_bad_secrets_and_urls_are_refused_unprinted(bad: str, secret: str) -> None:
    with pytest.raises(ValidationError) as caught:
        WebhookReceiver.model_validate({"name": "desk", "url": "https://example.org/t0ken", "secrets": [bad]})
    assert "24-64 bytes" in str(caught.value) or not bad
    urls = ["ftp://example.org/t0ken", "https:///t0ken", "t0ken", "https://[::1/t0ken", "https://example.org/\x01t0ken"]
    urls += [f"https://example.org:{port}/t0ken" for port in (99_999, 0, -1, "t0ken")]
    urls += ["https:// example.org/t0ken", "https://example.org/t0ken\n"]
    for url in urls:
        with pytest.raises(ValidationError) as caught:
            WebhookReceiver.model_validate({"name": "desk", "url": url, "secrets": [secret]})
        assert "t0ken" not in str(caught.value)


def test_the_sender_outlives_redis(
    rig: Rig, hooks: Any, alert: Alert, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rig.fire(alert)
    failures = iter([True, True])
    real: Callable[..., Any] = Outbox.due

    def flaky(self: Outbox, *args: Any) -> Any:
        if next(failures, False):
            raise redis.ConnectionError("refused")
        return real(self, *args)

    monkeypatch.setattr(Outbox, "due", flaky)
    monkeypatch.setattr(rig.sender, "_poll_s", 0.01)
    stop = threading.Event()
    thread = threading.Thread(target=rig.sender.run, args=(stop,))
    thread.start()
    while not rig.count("delivered"):
        stop.wait(0.01)
    stop.set()
    thread.join()
    assert "trying again" in caplog.text


def changes(alert: Alert, count: int) -> list[tuple[Event, Alert]]:
    """Alerts that fire and are resolved, in the order in which they were made."""
    made: list[tuple[Event, Alert]] = []
    for number in range(count):
        one = msgspec.structs.replace(alert, id=f"{number:032x}", name=f"N{number}")
        made.append(("alert.firing", one))
        if number % 2:
            made.append(("alert.resolved", msgspec.structs.replace(one, revision=2, status="resolved")))
    return made


def taken(hooks: Any) -> list[tuple[str, str]]:
    """Alert and event of all that a receiver took, digests unfolded; and no id was taken twice."""
    found, ids = [], set[str]()
    for headers, body in hooks.requests:
        assert headers["webhook-id"] not in ids
        ids.add(headers["webhook-id"])
        message = decode_message(body)
        if isinstance(message, Message):
            found.append((message.data.id, message.type))
        else:
            assert message.data.more_held == 0
            found += [(held.alerts[0], held.event) for held in message.data.held]
    return found


def in_order(told: list[tuple[str, str]]) -> dict[str, list[str]]:
    """What was told of each alert, in its order."""
    found: dict[str, list[str]] = {}
    for alert_id, event in told:
        found.setdefault(alert_id, []).append(event)
    return found


def put(rig: Rig, event: Event, alert: Alert) -> None:
    messages = deliveries(event, alert, [rig.settings.name], rig.now)
    queue(rig.redis, messages, rig.now)


def test_an_hour_down_loses_nothing_and_is_made_up_within_minutes(
    store: redis.Redis, hooks: Any, secret: str, alert: Alert
) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{sock.getsockname()[1]}/hook"
    rig, other = Rig(store, nobody, secret), Rig(store, hooks.url, secret, name="other")
    made = changes(alert, 30)
    told: list[float] = []
    for minute in range(60):
        rig.now = other.now = NOW + minute * 60
        for event, one in made[minute::60]:
            put(rig, event, one)
            both = deliveries(event, one, ["other"], other.now)
            store.zadd("nq:{alerts}:due:other", {f"nq:{{alerts}}:delivery:{both[0].id}": other.now})
            store.set(f"nq:{{alerts}}:delivery:{both[0].id}", msgspec.json.encode(both[0]))
        for second in range(0, 60, 10):
            rig.now = other.now = NOW + minute * 60 + second
            while rig.sender.step():
                pass
            while other.sender.step():
                told.append(second)
    assert told == [0] * len(made)  # others have each at once
    down = rig.outbox.down("desk")
    assert down is not None
    assert down.since_s == NOW
    assert rig.outbox.waiting("desk")[0] == len(made)
    tries = rig.count("failed")
    assert tries is not None
    assert 3 < tries < 40  # a receiver that is down is not hammered

    hooks.requests.clear()
    back = Rig(store, hooks.url, secret)  # a new process, too: what it knows of the receiver stands in Redis
    back.now = NOW + 3_600
    while rig.outbox.waiting("desk")[0]:
        back.sender.step()
        back.now += 1
    assert back.now < NOW + 3_600 + 360 + 2 * len(made)  # the longest rest, then one a second here
    assert in_order(taken(hooks)) == in_order([(one.id, event) for event, one in made])
    assert rig.outbox.down("desk") is None
    assert rig.outbox.dead_count() == 0


def test_beyond_the_limit_a_minute_one_digest_lists_the_rest(
    store: redis.Redis, hooks: Any, secret: str, alert: Alert
) -> None:
    rig = Rig(store, hooks.url, secret, per_minute=5)
    made = changes(alert, 30)
    for event, one in made:
        put(rig, event, one)
        rig.now += 0.01
    hooks.answers = [204, 204, 204, 204, 500]
    for _ in range(10):
        rig.sender.step()
    assert len(hooks.requests) == 5
    ids = [headers["webhook-id"] for headers, _ in hooks.requests]
    later = msgspec.structs.replace(made[-1][1], revision=9, status="resolved")
    after = deliveries("alert.resolved", later, ["desk"], rig.now)[0]
    after = msgspec.structs.replace(after, id="msg_later", after=(deliveries(*made[-1], ["desk"], 0)[0].id,))
    store.set("nq:{alerts}:delivery:msg_later", msgspec.json.encode(after))
    store.zadd("nq:{alerts}:due:desk", {"nq:{alerts}:delivery:msg_later": rig.now})
    for _ in range(80):
        rig.now += 1
        rig.sender.step()
    assert [headers["webhook-id"] for headers, _ in hooks.requests][4:6] == [ids[4]] * 2  # the digest again, by its id
    del hooks.requests[4]
    assert taken(hooks) == [*((one.id, event) for event, one in made), (later.id, "alert.resolved")]
    assert len(hooks.requests) == 6
    assert (
        rig.registry.get_sample_value("newsquake_alerts_deliveries_held_back_total", {"receiver": "desk"})
        == len(made) - 4
    )
    assert [line.event for line in rig.outbox.told(later.id)] == ["alert.digest", "alert.resolved"]


def test_a_receiver_that_asks_for_time_gets_it_for_all_it_is_sent(rig: Rig, hooks: Any, alert: Alert) -> None:
    hooks.answers = [(429, {"Retry-After": "90"}), 429]
    for event, one in changes(alert, 3):
        put(rig, event, one)
    for second in range(140):
        rig.now = NOW + second
        rig.sender.step()
        assert len(hooks.requests) == (1 if second < 90 else 2 if second < 120 else len(hooks.requests))
    del hooks.requests[:2]
    assert in_order(taken(hooks)) == in_order([(one.id, event) for event, one in changes(alert, 3)])
    assert all(line.attempts == 1 for line in rig.outbox.told(f"{0:032x}"))  # to be asked to wait is no failure


def test_one_bad_message_does_not_keep_a_good_receiver_shut(
    rig: Rig, hooks: Any, alert: Alert, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = HttpChannel._post
    bad = "f" * 32

    async def picky(self: HttpChannel, request: Any) -> Any:
        if bad.encode() in request.body:
            return Answer(400, None, b"")
        return await real(self, request)

    monkeypatch.setattr(HttpChannel, "_post", picky)
    put(rig, "alert.firing", msgspec.structs.replace(alert, id=bad))
    for _ in range(2_000):
        rig.now += 1
        rig.sender.step()
    assert rig.outbox.down("desk") is not None
    put(rig, "alert.firing", alert)
    put(rig, "alert.firing", msgspec.structs.replace(alert, id="b" * 32))
    for _ in range(700):
        rig.now += 1
        rig.sender.step()
    assert [event[0] for event in taken(hooks)] == [alert.id, "b" * 32]
    assert rig.outbox.waiting("desk")[0] == 1


def test_what_a_process_without_the_lead_says_changes_nothing(rig: Rig, alert: Alert) -> None:
    rig.fire(alert)
    (delivery,) = rig.outbox.due("desk", rig.now)
    assert rig.outbox.done(delivery, rig.now)
    assert not rig.outbox.retry(delivery, rig.now + 5, rig.now)
    assert not rig.outbox.give_up(delivery, rig.now)
    assert rig.outbox.waiting("desk") == (0, None)
    assert rig.outbox.dead_count() == 0
    assert [line.status for line in rig.outbox.told(alert.id)] == ["delivered"]


def test_what_nobody_took_for_days_is_given_up(rig: Rig, hooks: Any, alert: Alert) -> None:
    hooks.usual = 500
    for event, one in changes(alert, 4):
        put(rig, event, one)
    while rig.outbox.waiting("desk")[0]:
        rig.now += 3_000
        while rig.sender.step():
            pass
    assert rig.outbox.dead_count() == len(changes(alert, 4))
    assert rig.now <= NOW + KEEP_S + 6_000


def test_addresses_of_named_networks_are_allowed(rig: Rig) -> None:
    ten = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))
    for address, good in (("10.9.9.9", True), ("::ffff:10.9.9.9", True), ("192.168.0.1", False), ("fd00::1", True)):
        assert addresses.is_allowed(address, ten) is good
    assert not addresses.is_allowed("169.254.169.254", ten)


def test_what_was_given_up_long_ago_is_sent_again_even_while_the_receiver_seems_down(
    rig: Rig, hooks: Any, alert: Alert
) -> None:
    hooks.usual = 500
    for name in "abcd":
        rig.fire(msgspec.structs.replace(alert, id=name * 32))
    for _ in range(3):
        rig.sender.step()
    assert rig.outbox.down("desk") is not None
    rig.now += KEEP_S + 60
    while rig.outbox.waiting("desk")[0]:
        rig.sender.step()
    assert rig.outbox.dead_count() == 4
    hooks.usual = 204
    assert rig.outbox.revive(lambda _: True, rig.now) == 4
    for _ in range(5):
        rig.now += 400
        rig.sender.step()
    assert (rig.outbox.dead_count(), rig.count("delivered")) == (0, 4)


def test_a_delivery_of_another_version_holds_up_no_other(
    rig: Rig, hooks: Any, alert: Alert, store: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    store.set(delivery_key("msg_other"), b'{"id": "msg_other"}')
    store.zadd(due_key("desk"), {delivery_key("msg_other"): 0})
    store.lpush("nq:{alerts}:dead", b"[]")
    rig.fire(alert)
    for _ in range(2):
        rig.sender.step()
    assert rig.count("delivered") == 1
    assert rig.outbox.waiting("desk") == (0, None)
    assert rig.outbox.dead() == []
    assert rig.outbox.get("msg_other") is None
    assert "cannot be read and is left out" in caplog.text


def test_a_message_that_a_channel_fails_on_holds_up_no_other(
    rig: Rig, hooks: Any, alert: Alert, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = msgspec.structs.replace(alert, id="b" * 32)
    rig.fire(bad)
    rig.now += 0.001
    rig.fire(alert)
    made = HttpChannel.send

    async def send(self: HttpChannel, told: Notification, now: datetime) -> Any:
        if told.alerts[0].id == bad.id:
            raise KeyError("a mistake")
        return await made(self, told, now)

    monkeypatch.setattr(HttpChannel, "send", send)
    while rig.sender.step():
        pass
    assert (rig.count("delivered"), rig.count("failed")) == (1, 1)
    (waiting,) = rig.outbox.queued("desk")
    assert (waiting.delivery.attempts, waiting.delivery.reason) == (1, "unexpected KeyError")
