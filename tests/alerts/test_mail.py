"""Mail through real SMTP servers: TLS checked by name, sign-in, refusals, and one id however often it is sent."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from prometheus_client import CollectorRegistry

from alerts.alert import Alert
from alerts.channels import email
from alerts.channels.email import EmailChannel
from alerts.delivery import delivery_of
from alerts.metrics import AlertsMetrics
from alerts.notification import Notification, notification_id
from alerts.outbox import Outbox
from alerts.receivers import EmailReceiver
from alerts.sender import Sender
from tests.alerts.rig import queue

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


class Box:
    """A mail box; `answers` are what the server says to messages before it takes one."""

    def __init__(self) -> None:
        self.mails: list[Any] = []
        self.answers: list[str] = []
        self.busy: set[str] = set()
        self.slow_goodbye_s = 0.0

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        self.mails.append((envelope.rcpt_tos, message_from_bytes(envelope.content, policy=policy.default)))
        return self.answers.pop(0) if self.answers else "250 taken"

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:
        if address.startswith("gone@"):
            return "550 no such user"
        if address in self.busy:
            self.busy.remove(address)
            return "450 greylisted, come again"
        envelope.rcpt_tos.append(address)
        return "250 fine"

    async def handle_QUIT(self, *_: Any) -> str:
        await asyncio.sleep(self.slow_goodbye_s)
        return "221 bye"


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    authority = trustme.CA()
    file = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return authority, file


@pytest.fixture
def serve(ca: tuple[trustme.CA, Path]) -> Iterator[Callable[..., tuple[Box, Callable[..., EmailChannel]]]]:
    """Starts a server, with TLS from the first byte if asked; gives its box and what makes a channel to it."""
    started: list[Controller] = []

    def start(
        host: str = "127.0.0.1", *, first: bool = False, **options: Any
    ) -> tuple[Box, Callable[..., EmailChannel]]:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca[0].issue_cert(host).configure_cert(tls)
        box = Box()
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        controller = Controller(
            box, hostname="127.0.0.1", port=port, **{"ssl_context" if first else "tls_context": tls}, **options
        )
        controller.start()
        started.append(controller)

        def channel(**more: Any) -> EmailChannel:
            given = {"name": "mail", "host": "127.0.0.1", "port": port, "ca_file": ca[1], "sender": "nq@bank.example"}
            given |= {"to": ["desk@bank.example"], "allow_networks": ["127.0.0.0/8"]}
            return EmailChannel(EmailReceiver.model_validate(given | more))

        return box, channel

    yield start
    for controller in started:
        controller.stop()


def told(alert: Alert) -> Notification:
    ident = notification_id(alert.id, "alert.firing")
    return Notification(id=ident, receiver="mail", event="alert.firing", alerts=(alert,), at=NOW)


async def test_a_mail_has_text_and_html_and_one_id(serve: Any, alert: Alert) -> None:
    box, channel = serve(require_starttls=True)
    box.answers = ["451 try again"]
    assert (await channel().send(told(alert), NOW)).outcome == "failed"
    assert (await channel().send(told(alert), NOW)).outcome == "delivered"
    (_, first), (to, mail) = box.mails
    assert to == ["desk@bank.example"]
    assert first["Message-ID"] == mail["Message-ID"] == f"<{told(alert).id}@bank.example>"
    assert mail["Subject"] == "Firing, critical: SIVB"
    assert mail["References"] == f"<{alert.id}@bank.example>"
    text, html = (part.get_content() for part in mail.iter_parts())
    assert "Bank shares plunge (Daily, 09 Mar 18:04 UTC)" in text
    assert '<a href="https://example.org/1" rel="noopener noreferrer">Bank shares plunge</a>' in html


async def test_the_certificate_is_checked_by_name(serve: Any, alert: Alert) -> None:
    box, channel = serve("another.example")
    result = await channel().send(told(alert), NOW)
    assert result.outcome == "failed"
    assert "CERTIFICATE_VERIFY_FAILED" in result.reason
    assert box.mails == []


async def test_tls_may_begin_with_the_first_byte(serve: Any, alert: Alert, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(email, "TIMEOUT_S", 3.0)
    box, channel = serve(first=True)
    assert (await channel(security="tls").send(told(alert), NOW)).outcome == "delivered"
    assert (await channel().send(told(alert), NOW)).outcome == "failed"  # by STARTTLS nothing is said there
    assert len(box.mails) == 1
    another, channel = serve("another.example", first=True)
    assert "CERTIFICATE_VERIFY_FAILED" in (await channel(security="tls").send(told(alert), NOW)).reason
    assert another.mails == []


async def test_the_password_goes_by_tls_and_is_not_told(serve: Any, alert: Alert) -> None:
    def check(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=data.password == b"hush", handled=False)  # the server is to say so

    box, channel = serve(authenticator=check, auth_required=True)
    assert (await channel(username="nq", password="hush").send(told(alert), NOW)).outcome == "delivered"
    wrong = await channel(username="nq", password="wr0ng").send(told(alert), NOW)
    assert (wrong.outcome, wrong.reason) == ("failed", "the mail server does not take the user and password")
    assert len(box.mails) == 1
    for repeated in ("hush", base64.b64encode(b"\0nq\0hush").decode()):
        box.answers = [f"451 after {repeated} no"]
        result = await channel(username="nq", password="hush").send(told(alert), NOW)
        assert "after (its password) no" in result.reason
    with pytest.raises(ValueError, match="without TLS"):
        channel(username="nq", password="hush", security="none")


async def test_one_address_of_several_may_be_gone(serve: Any, alert: Alert) -> None:
    box, channel = serve()
    result = await channel(to=["desk@bank.example", "gone@bank.example"]).send(told(alert), NOW)
    assert (result.outcome, result.reason[:6]) == ("delivered", "1 of 2")
    assert box.mails[0][0] == ["desk@bank.example"]
    assert (await channel(to=["gone@bank.example"]).send(told(alert), NOW)).outcome == "failed"


async def test_an_address_that_is_refused_for_now_gets_its_mail_later_and_the_others_theirs_once(
    serve: Any, alert: Alert, store: redis.Redis
) -> None:
    box, channel = serve()
    to = ["desk@bank.example", "late@bank.example", "later@bank.example", "gone@bank.example"]
    mail = channel(to=to, security="none")
    outbox, now_s = Outbox(store), NOW.timestamp()
    sender = Sender(mail, outbox, AlertsMetrics(CollectorRegistry()), lambda: now_s)
    queue(store, [delivery_of(told(alert), now_s)], now_s)
    for busy in ({"late@bank.example", "later@bank.example"}, {"later@bank.example"}, set()):
        box.busy = busy
        await asyncio.to_thread(sender.step)
        now_s = outbox.waiting("mail")[1] or now_s
    assert [to for to, _ in box.mails] == [["desk@bank.example"], ["late@bank.example"], ["later@bank.example"]]
    assert len({sent["Message-ID"] for _, sent in box.mails}) == 1
    (line,) = outbox.told(alert.id)
    assert (line.status, line.attempts) == ("delivered", 3)


async def test_one_full_box_does_not_hold_up_the_others(serve: Any, alert: Alert, store: redis.Redis) -> None:
    box, channel = serve()
    outbox, now_s = Outbox(store), NOW.timestamp()
    mail = channel(to=["desk@bank.example", "full@bank.example"], security="none")
    sender = Sender(mail, outbox, AlertsMetrics(CollectorRegistry()), lambda: now_s)
    for number in range(6):
        one = told(msgspec.structs.replace(alert, id=f"{number:032x}"))
        queue(store, [delivery_of(one, now_s)], now_s)
        box.busy = {"full@bank.example"}
        await asyncio.to_thread(sender.step)
        now_s += 0.1
    assert len(box.mails) == 6
    assert outbox.down("mail") is None


async def test_what_was_taken_is_taken_however_the_goodbye_ends(
    serve: Any, alert: Alert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(email, "TIMEOUT_S", 1.0)
    monkeypatch.setattr(email, "_GOODBYE_S", 1.5)
    box, channel = serve()
    box.slow_goodbye_s = 2.0
    assert (await channel(security="none").send(told(alert), NOW)).outcome == "delivered"
    assert len(box.mails) == 1


async def test_a_server_inside_is_not_connected_to_unless_its_network_is_named(serve: Any, alert: Alert) -> None:
    box, channel = serve()
    result = await channel(allow_networks=[]).send(told(alert), NOW)
    assert "127.0.0.1, which is not public" in result.reason
    assert box.mails == []


async def test_an_address_that_swallows_packets_leaves_time_for_the_next(
    serve: Any, alert: Alert, black_hole: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(email, "TIMEOUT_S", 3.0)
    box, channel = serve("mail.example")
    to = channel(host="mail.example")
    black_hole(int(to.shown.partition(":")[2]))
    assert (await to.send(told(alert), NOW)).outcome == "delivered"
    assert len(box.mails) == 1
