"""Connections that are kept for a burst: used again, to a checked address alone, and missed by nobody once closed."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from alerts.alert import Alert
from alerts.channels.channel import Result
from alerts.notification import Notification
from tests.alerts.conftest import Hooks
from tests.alerts.test_channels import NOW, channel


def told(alert: Alert) -> Notification:
    return Notification(id="msg_1", receiver="webhook", event="alert.firing", alerts=(alert,), at=alert.updated_at)


@pytest.fixture
def keeping() -> Iterator[Hooks]:
    """A receiver that keeps connections, and gives cookies away."""
    hooks = Hooks(keeps=True)
    hooks.usual = (200, {"set-cookie": "a=b; path=/"})
    yield hooks
    hooks.close()


async def send(kept: Any, alert: Alert, count: int = 1) -> list[Result]:
    return [await kept.send(told(alert), NOW) for _ in range(count)]


async def test_messages_of_a_burst_share_connections_and_no_cookies(keeping: Hooks, alert: Alert) -> None:
    keeping.body = b"taken"
    async with channel("webhook", keeping.url).kept() as kept:
        found = await send(kept, alert, 5)
    assert {each.outcome for each in found} == {"delivered"}
    assert len(set(keeping.ports)) == 1
    assert not any("cookie" in headers for headers, _ in keeping.requests)


async def test_a_connection_that_was_idle_is_not_used_again(
    keeping: Hooks, alert: Alert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alerts.channels.channel._IDLE_S", 0.0)
    async with channel("webhook", keeping.url).kept() as kept:
        await send(kept, alert, 3)
    assert len(set(keeping.ports)) == 3


async def test_a_format_without_ids_has_a_connection_for_each_message(keeping: Hooks, alert: Alert) -> None:
    keeping.usual, keeping.body = 200, b"ok"
    async with channel("slack", keeping.url).kept() as kept:
        found = await send(kept, alert, 3)
    assert {each.outcome for each in found} == {"delivered"}
    assert len(set(keeping.ports)) == 3


async def test_a_receiver_that_closes_without_a_word_has_the_message_by_another_connection(
    keeping: Hooks, alert: Alert
) -> None:
    async with channel("webhook", keeping.url).kept() as kept:
        await send(kept, alert)
        keeping.answers = ["reset", 204]
        (found,) = await send(kept, alert)
        assert found.outcome == "delivered"
        keeping.answers = ["reset", "reset", 204]
        (found,) = await send(kept, alert)
        assert found.outcome == "failed"  # that one was made for it


async def test_a_name_that_leads_elsewhere_by_now_is_not_spoken_to_by_an_old_connection(
    keeping: Hooks, alert: Alert, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = iter(["127.0.0.1", "127.0.0.1", "169.254.169.254"])

    def resolve(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(addresses), port))]

    url = keeping.url.replace("127.0.0.1", "risk.example")
    async with channel("webhook", url).kept() as kept:
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        found = await send(kept, alert, 3)
    assert [each.outcome for each in found] == ["delivered", "delivered", "failed"]
    assert "169.254.169.254, which is not public" in found[2].reason
    assert len(set(keeping.ports)) == 1


async def test_each_kept_connection_is_made_to_one_whose_certificate_is_right(alert: Alert, tmp_path: Path) -> None:
    ca, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    ca.issue_cert("127.0.0.1").configure_cert(tls)
    hooks = Hooks(tls, keeps=True)
    try:
        async with channel("webhook", hooks.url, ca_file=tmp_path / "ca.pem").kept() as kept:
            found = await send(kept, alert, 2)
            ca.issue_cert("another.example").configure_cert(tls)
            found += await asyncio.gather(*(kept.send(told(alert), NOW) for _ in range(2)))
    finally:
        hooks.close()
    assert sorted(each.outcome for each in found) == ["delivered", "delivered", "delivered", "failed"]
    assert "CERTIFICATE_VERIFY_FAILED" in found[2].reason + found[3].reason


async def test_a_connection_is_not_kept_for_an_answer_that_is_longer_than_any(keeping: Hooks, alert: Alert) -> None:
    keeping.usual, keeping.body = 200, b"x" * 10_000_000
    async with channel("webhook", keeping.url).kept() as kept:
        found = await send(kept, alert, 2)
    assert {each.outcome for each in found} == {"delivered"}
    assert len(set(keeping.ports)) == 2
