"""One attempt to deliver a message by Standard Webhooks, and what its answer means."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import socket
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal
from urllib.parse import urlsplit

import httpx
import msgspec

from alerts.alert import message_body
from alerts.notification import decode_notification
from alerts.outbox import Delivery
from alerts.settings import WebhookSettings, check_secret

TIMEOUT_S = 15.0
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Result(msgspec.Struct, frozen=True):
    """What came of an attempt: `gone` disables the endpoint, `refused` will never be sent, `failed` is tried again."""

    outcome: Literal["delivered", "failed", "gone", "refused"]
    reason: str = ""
    retry_after_s: float = 0.0


class Endpoint:
    """A receiver. Its URL is shown without path and query, where tokens stand."""

    def __init__(self, settings: WebhookSettings) -> None:
        url = settings.url.get_secret_value()
        parts = urlsplit(url)
        self.id = hashlib.blake2b(url.encode(), digest_size=8).hexdigest()
        self.shown = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
        self._url = httpx.URL(url)
        self._signer = check_secret(settings.secret.get_secret_value())
        self._allow_private = settings.allow_private

    def send(self, delivery: Delivery, now: datetime) -> Result:
        """Post the delivery, signed for `now` (UTC), within `TIMEOUT_S`; never raises for what a network does."""
        return asyncio.run(self._send(delivery, now))

    async def _send(self, delivery: Delivery, now: datetime) -> Result:
        told = decode_notification(delivery.body)
        body = message_body(told.event, told.alerts[0]).decode()
        headers = {
            "content-type": "application/json",
            "user-agent": "newsquake",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._signer.sign(delivery.id, now, body),
        }
        try:
            async with asyncio.timeout(TIMEOUT_S):
                address = None if self._allow_private else await self._public_address()
                # No proxy from the environment: the connection must go to the address that was checked.
                async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False, follow_redirects=False) as client:
                    url = self._url.copy_with(host=address) if address else self._url
                    request = client.build_request("POST", url, headers=headers, content=body.encode())
                    if address:
                        request.headers["host"] = self._url.netloc.decode()
                        request.extensions["sni_hostname"] = self._url.host
                    response = await client.send(request, stream=True)  # its body is of no interest, and unbounded
                    await response.aclose()
        except _RefusedError as exc:
            return Result("failed", str(exc))  # tried again as all else: a setting mended in time loses no alert
        except TimeoutError:
            return Result("failed", f"no answer within {TIMEOUT_S:.0f} s")
        except (httpx.HTTPError, OSError, ValueError) as exc:
            return Result("failed", f"{type(exc).__name__}: {_brief(exc, self._url)}")
        return _meaning(response, now)

    async def _public_address(self) -> str:
        port = self._url.port or (443 if self._url.scheme == "https" else 80)
        found = await asyncio.get_running_loop().getaddrinfo(self._url.host, port, type=socket.SOCK_STREAM)
        addresses = [str(entry[4][0]) for entry in found]
        for address in addresses:
            if not _is_public(address):
                raise _RefusedError(
                    f"{self.shown} resolves to {address}, which is not public; "
                    "if it is yours, set allow_private = true under [[alerts.webhooks]]"
                )
        return addresses[0]


class _RefusedError(Exception):
    """The endpoint's address is not allowed."""


def _is_public(address: str) -> bool:
    """Say whether the public internet has this address; one that holds an IPv4 address counts as that."""
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF) if ip in _NAT64 else ip.ipv4_mapped or ip.sixtofour
        if inner is None and ip not in _GLOBAL_UNICAST:  # site-local, IPv4-compatible, ...
            return False
        ip = inner or ip
    return ip.is_global and not ip.is_multicast


def _meaning(response: httpx.Response, now: datetime) -> Result:
    status = response.status_code
    if 200 <= status < 300:
        return Result("delivered")
    if status == 410:
        return Result("gone", "the receiver answered 410 Gone: it wants no more")
    if 300 <= status < 400:
        return Result("failed", f"the receiver answered {status}, a redirect, which is not followed")
    return Result("failed", f"the receiver answered {status}", _retry_after_s(response.headers.get("retry-after"), now))


def _retry_after_s(value: str | None, now: datetime) -> float:
    if not value:
        return 0.0
    if value.isascii() and value.isdigit():
        wait_s = float(value)
    else:
        try:
            when = parsedate_to_datetime(value)
            wait_s = ((when if when.tzinfo else when.replace(tzinfo=UTC)) - now).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return min(max(wait_s, 0.0), 86_400.0)


def _brief(exc: Exception, url: httpx.URL) -> str:
    return str(exc).replace(str(url), "(its URL)")[:200]
