"""What a channel is, and the part that all channels by HTTP have in common: one attempt, and what its answer means."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import math
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any, Literal, Protocol, Self
from urllib.parse import urlsplit

import httpx
import msgspec
from pydantic import SecretStr

from alerts.addresses import RefusedError, checked_addresses
from alerts.channels.masks import url_mask
from alerts.notification import Notification
from alerts.receivers import BaseReceiver

TIMEOUT_S = 15.0
AT_ONCE = 32
_IDLE_S = 2.0  # servers keep a connection for 5 s or longer
_REST_S = 0.5  # for the rest of an answer of which the status is known, so that its connection can be used again
_MAX_ANSWER = 16 * 1024


class Result(msgspec.Struct, frozen=True):
    """What came of an attempt.

    `failed` is tried again; `limited` too, as soon as the receiver wants it, and so is all else for it; `gone` disables
    the receiver; `refused` will never be sent. Of what failed in `part` the rest was taken: the receiver is not down.
    """

    outcome: Literal["delivered", "failed", "limited", "gone", "refused"]
    reason: str = ""
    retry_after_s: float = 0.0
    part: bool = False


class Channel(Protocol):
    """A way to a receiver. `shown` is its address without path and query, where tokens stand.

    `digests` is how many notifications can be told in one; 0 when each must be told. `at_once` is how many may be on
    their way together: one, unless the receiver knows by an id what comes twice, and limits neither calls a second nor
    connections.
    """

    name: str
    shown: str
    per_minute: int
    digests: int
    at_once: int

    def kept(self) -> AbstractAsyncContextManager[Channel]:
        """Give this channel for many attempts, which may share connections."""
        ...

    async def send(self, told: Notification, now: datetime) -> Result:
        """Make one attempt at `now` (UTC); never raises for what a network or a receiver does."""
        ...


class Request(msgspec.Struct, frozen=True):
    """One POST. `query` is added to the receiver's own."""

    body: bytes
    headers: dict[str, str] = {}
    query: dict[str, str] = {}


class Answer(msgspec.Struct, frozen=True):
    """What a receiver said; `body` is cut off at 16 kB, and may be shorter where the format does not read it."""

    status: int
    retry_after: str | None
    body: bytes

    def field(self, name: str) -> Any:
        """Return a field of the JSON object that the body is, None when it is none or lacks it."""
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return found.get(name) if isinstance(found, dict) else None


class HttpChannel(ABC):
    """Posts what a format makes of a notification, one request after the other. Formats derive from it."""

    digests = 500
    at_once = 1
    reads_answer = False  # whether the body of an answer says more than its status
    _idle: list[tuple[float, httpx.AsyncClient]] | None = None  # since when; each keeps a connection

    def __init__(self, settings: BaseReceiver, url: SecretStr) -> None:
        parts = urlsplit(url.get_secret_value())
        self.name, self.per_minute = settings.name, settings.per_minute
        self.shown = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
        self._url = httpx.URL(url.get_secret_value())
        self._mask = url_mask(url.get_secret_value())
        self._allowed = settings.allow_networks
        self._tls = tls_of(settings.ca_file)

    @abstractmethod
    def requests(self, told: Notification, now: datetime) -> Sequence[Request]:
        """Return what is posted for a notification at `now` (UTC). Sent twice they must do no more than once."""

    def meaning(self, answer: Answer, now: datetime) -> Result:
        """Return what an answer means."""
        return meaning_of_status(answer, now)

    async def send(self, told: Notification, now: datetime) -> Result:
        """Make one attempt, within `TIMEOUT_S` a request."""
        try:
            for request in self.requests(told, now):
                async with asyncio.timeout(TIMEOUT_S):
                    result = self.meaning(await self._post(request), now)
                if result.outcome != "delivered":
                    return result
        except RefusedError as exc:
            return Result("failed", str(exc))  # tried again as all else: a setting mended in time loses no alert
        except (TimeoutError, httpx.TimeoutException):
            return Result("failed", f"no answer within {TIMEOUT_S:.0f} s")
        except (httpx.HTTPError, OSError, ValueError) as exc:
            return Result("failed", self._brief(exc))
        return Result("delivered")

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[Self]:
        """Give this channel for many attempts. Where several go at once, connections are kept from one to the next."""
        if self.at_once == 1:
            yield self
            return
        found = copy.copy(self)
        found._idle = []
        try:
            yield found
        finally:
            await found._close_idle(math.inf)

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            verify=self._tls,
            trust_env=False,  # no proxy from the environment: the connection must go to the address that was checked
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )

    async def _close_idle(self, before_s: float) -> None:
        while self._idle and self._idle[0][0] < before_s:
            await self._idle.pop(0)[1].aclose()

    async def _post(self, request: Request) -> Answer:
        port = self._url.port or (443 if self._url.scheme == "https" else 80)
        addresses = await checked_addresses(self._url.host, port, self._allowed)
        if self._idle is not None:
            await self._close_idle(time.monotonic() - _IDLE_S)
            client = self._idle.pop()[1] if self._idle else self._client()
            try:
                with contextlib.suppress(_ClosedError):  # the receiver knows by its id what it has had
                    return await self._post_to(addresses, request, client)
            finally:
                self._idle.append((time.monotonic(), client))
        async with self._client() as client:
            return await self._post_to(addresses, request, client)

    async def _post_to(self, addresses: Sequence[str], request: Request, client: httpx.AsyncClient) -> Answer:
        query = {**self._url.params, **request.query}
        url = self._url.copy_with(params=query) if request.query else self._url
        for address in addresses:
            made = client.build_request(
                "POST",
                url.copy_with(host=address),  # a kept connection is one to this address, checked now as well
                content=request.body,
                timeout=httpx.Timeout(TIMEOUT_S, connect=connect_s(TIMEOUT_S, addresses)),
            )
            made.headers.update({"content-type": "application/json", "user-agent": "newsquake", **request.headers})
            made.headers["host"] = self._url.netloc.decode()
            made.headers["accept-encoding"] = "identity"  # answers are read as they come, and are small
            made.extensions["sni_hostname"] = self._url.host
            unreached = () if address == addresses[-1] else (httpx.ConnectError, httpx.ConnectTimeout)
            with contextlib.suppress(*unreached):  # nothing was posted yet
                return await _answer(client, made, needed=self.reads_answer)
        raise OSError("the name has no address")

    def _brief(self, exc: Exception) -> str:
        return f"{type(exc).__name__}: {self.masked(str(exc))}"[:200]

    def masked(self, text: str) -> str:
        """Return a text without what it repeats of the URL's path, query and user, where tokens stand."""
        return self._mask.sub("(of its URL)", text)


class _ClosedError(Exception):
    """A connection that was kept is closed by now, or was while the receiver was to answer."""


async def _answer(client: httpx.AsyncClient, request: httpx.Request, *, needed: bool) -> Answer:
    """Return what was answered, with its body where that is `needed`.

    Raises:
        _ClosedError: nothing was, by a connection that had been kept.
    """
    fresh = False
    async with contextlib.AsyncExitStack() as opened:

        async def note(event: str, info: dict[str, Any]) -> None:
            nonlocal fresh
            if event == "connection.connect_tcp.complete":
                fresh = True
                opened.push_async_callback(info["return_value"].aclose)

        request.extensions["trace"] = note  # httpcore leaves open what is given up in the hand-shake of TLS
        try:
            response = await client.send(request, stream=True)
        except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError) as exc:
            if fresh:
                raise
            raise _ClosedError from exc
        body = await _body(response, needed=needed)
        opened.pop_all()  # from here on the client closes it, or keeps it
    wait = response.headers.get("retry-after", response.headers.get("x-ogw-ratelimit-reset"))  # the latter is Feishu's
    return Answer(response.status_code, wait, body)


async def _body(response: httpx.Response, *, needed: bool) -> bytes:
    """Return the body of an answer, and close this. A connection whose answer was read to its end can be used again."""
    body = b""
    try:
        with contextlib.suppress(*(() if needed else (TimeoutError, httpx.HTTPError))):
            async with asyncio.timeout(None if needed else _REST_S):
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) >= _MAX_ANSWER:
                        break
    finally:
        await response.aclose()
    return body[:_MAX_ANSWER]


def connect_s(total_s: float, addresses: Sequence[str]) -> float:
    """Return the seconds of `total_s` that a connection to one of the addresses may take.

    An address that swallows packets so leaves time for the next; a host of many is not given up after a blink.
    """
    return total_s / min(len(addresses), 4)


def tls_of(ca_file: Path | None) -> ssl.SSLContext:
    """Return what a connection by TLS is checked against: certificates of a file, or those of public authorities."""
    return ssl.create_default_context(cafile=ca_file) if ca_file else httpx.create_ssl_context()


def meaning_of_status(answer: Answer, now: datetime) -> Result:
    """Return what the HTTP status of an answer means."""
    status = answer.status
    if 200 <= status < 300:
        return Result("delivered")
    if status == 410:
        return Result("gone", "the receiver answered 410 Gone: it wants no more")
    if 300 <= status < 400:
        return Result("failed", f"the receiver answered {status}, a redirect, which is not followed")
    wait_s = retry_after_s(answer.retry_after, now)
    if status == 429 or (status == 503 and wait_s > 0):
        return Result("limited", f"the receiver answered {status}: not so fast", wait_s)
    return Result("failed", f"the receiver answered {status}", wait_s)


def retry_after_s(value: str | None, now: datetime) -> float:
    """Return the seconds that a Retry-After asks for, at most a day; 0 for none or a senseless one.

    It is a number of seconds or a date (RFC 9110, 10.2.3).
    """
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


def as_json(value: Any) -> bytes:
    """Return a value as JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
