"""Whereto may be connected: not to addresses inside, unless they are named, and to that which was checked."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest
import redis

from alerts import addresses
from alerts.alert import Alert
from tests.alerts.rig import Rig


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


def test_addresses_of_named_networks_are_allowed(rig: Rig) -> None:
    ten = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))
    for address, good in (("10.9.9.9", True), ("::ffff:10.9.9.9", True), ("192.168.0.1", False), ("fd00::1", True)):
        assert addresses.is_allowed(address, ten) is good
    assert not addresses.is_allowed("169.254.169.254", ten)
