"""Deliveries reach their receivers once or more, in order, or end in the dead list with a reason."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import msgspec
import pytest
import redis
from standardwebhooks.webhooks import Webhook

from alerts import outbox as outbox_module
from alerts.alert import Alert
from alerts.channels import channel
from alerts.channels.channel import HttpChannel
from alerts.delivery import delivery_key, due_key
from alerts.notification import Notification
from alerts.outbox import Outbox
from alerts.replay import replay
from alerts.sender import RETRY_S
from tests.alerts.rig import NOW, Rig, deliveries, queue


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
    assert replay(rig.outbox, lambda _: True, rig.now).due == 1
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
    assert replay(rig.outbox, lambda _: True, rig.now).due == 2
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


def test_what_waits_for_a_removed_endpoint_is_given_up_with_the_reason(rig: Rig, alert: Alert) -> None:
    rig.fire(alert)
    rig.resolve(alert)
    assert rig.outbox.drop_unknown(["desk"], NOW) == 0
    assert rig.outbox.drop_unknown(["another"], NOW) == 2
    assert {dead.reason for dead in rig.outbox.dead()} == {"its receiver is configured no more"}


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


def test_what_a_process_without_the_lead_says_changes_nothing(rig: Rig, alert: Alert) -> None:
    rig.fire(alert)
    (delivery,) = rig.outbox.due("desk", rig.now)
    assert rig.outbox.done(delivery, rig.now)
    assert not rig.outbox.retry(delivery, rig.now + 5, rig.now)
    assert not rig.outbox.give_up(delivery, rig.now)
    assert rig.outbox.waiting("desk") == (0, None)
    assert rig.outbox.dead_count() == 0
    assert [line.status for line in rig.outbox.told(alert.id)] == ["delivered"]


def test_what_is_settled_or_stopped_between_the_look_and_the_attempt_is_not_sent(
    rig: Rig, hooks: Any, alert: Alert, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.fire(alert)
    (delivery,) = rig.outbox.due("desk", rig.now)
    real: Callable[..., Any] = Outbox.due

    def settled_since(self: Outbox, *args: Any) -> Any:
        found = real(self, *args)
        assert self.done(delivery, rig.now)  # by another process
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "due", settled_since)
        rig.sender.step()
    assert (hooks.requests, rig.count("delivered")) == ([], 0)
    rig.fire(alert)
    stop = threading.Event()

    def stopped_since(self: Outbox, *args: Any) -> Any:
        stop.set()
        return real(self, *args)

    monkeypatch.setattr(Outbox, "due", stopped_since)
    rig.sender.run(stop)
    assert (hooks.requests, rig.outbox.waiting("desk")[0]) == ([], 1)


@pytest.mark.parametrize("another_process", [False, True])
def test_what_was_made_by_a_clock_that_was_ahead_does_not_wait_for_it(
    rig: Rig, hooks: Any, alert: Alert, secret: str, another_process: bool
) -> None:
    rig.now = NOW + 3_600
    assert not rig.sender.step()
    rig.fire(alert)
    rig.now += 1
    rig.resolve(alert)
    (firing,) = rig.outbox.due("desk", rig.now)
    rig.outbox.retry(firing, rig.now + 300, rig.now)
    if another_process:
        rig = Rig(rig.redis, hooks.url, secret)
    rig.now = NOW
    while rig.sender.step():
        pass
    assert [json.loads(body)["type"] for _, body in hooks.requests] == ["alert.firing", "alert.resolved"]
    assert all(line.created_s <= NOW for line in rig.outbox.told(alert.id))


def test_a_receiver_that_asked_for_time_is_not_silent_longer_when_the_clock_steps_back(
    rig: Rig, hooks: Any, alert: Alert
) -> None:
    hooks.answers = [(429, {"Retry-After": "60"})]
    rig.now = NOW + 3_600
    rig.fire(alert)
    rig.sender.step()
    for second in range(62):
        rig.now = NOW + second
        rig.sender.step()
        assert len(hooks.requests) == (1 if second < 60 else 2)


def test_repeats_do_not_fill_an_alert_s_history(rig: Rig, hooks: Any, alert: Alert, store: redis.Redis) -> None:
    rig.fire(alert)
    (first,) = rig.outbox.due("desk", rig.now)
    assert rig.outbox.done(first, rig.now)
    for number in range(300):
        rig.now += 300
        (repeat,) = deliveries("alert.repeated", alert, ["desk"], rig.now)
        repeat = msgspec.structs.replace(repeat, id=f"msg_{number}")
        queue(store, [repeat], rig.now)
        assert rig.outbox.retry(repeat, rig.now, rig.now)
        assert [line.status for line in rig.outbox.told(alert.id)][-1] == "failed"
        assert (rig.outbox.give_up if number == 150 else rig.outbox.done)(repeat, rig.now + 1)
    lines = [(line.event, line.status, line.id) for line in rig.outbox.told(alert.id)]
    assert lines == [
        ("alert.firing", "delivered", first.id),
        ("alert.repeated", "dead", "msg_150"),
        ("alert.repeated", "delivered", "msg_299"),
    ]
    assert store.hlen(f"nq:{{alerts}}:told:{alert.id}") == 3
    assert replay(rig.outbox, lambda _: True, rig.now).superseded == 1  # it knows better
    assert [line.status for line in rig.outbox.told(alert.id)] == ["delivered", "superseded", "delivered"]


def test_a_delivery_of_another_version_holds_up_no_other(
    rig: Rig, hooks: Any, alert: Alert, store: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    store.set(delivery_key("msg_other"), b'{"id": "msg_other"}')
    store.zadd(due_key("desk"), {delivery_key("msg_other"): 0})
    rig.fire(alert)
    for _ in range(2):
        rig.sender.step()
    assert (rig.count("delivered"), rig.count("dead")) == (1, 1)
    assert rig.outbox.waiting("desk") == (0, None)
    assert rig.outbox.dead() == []
    assert rig.outbox.get("msg_other") is None
    assert "cannot be read, and is in the dead list as it is" in caplog.text
    assert (rig.outbox.dead_count(), store.lrange("nq:{alerts}:dead", 0, -1)) == (1, [b'{"id": "msg_other"}'])


def test_what_could_not_be_read_is_sent_by_a_version_that_can(
    rig: Rig, hooks: Any, alert: Alert, store: redis.Redis
) -> None:
    (delivery,) = deliveries("alert.firing", alert, ["desk"], NOW)
    queue(store, [delivery], NOW)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outbox_module, "_delivery", msgspec.json.Decoder(int))
        rig.sender.step()
    assert rig.outbox.waiting("desk") == (0, None)
    assert replay(rig.outbox, lambda _: True, rig.now).due == 1
    rig.sender.step()
    assert len(hooks.requests) == 1


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
