"""What holds for every answer: headers that let a browser do nothing but show it, and a limit for what comes in."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alerts.desk.problems import problem

log = logging.getLogger(__name__)

MAX_BODY_BYTES, MAX_BODY_S = 64 * 1024, 20.0
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # with none, browsers name no origin either
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Guard:
    """Wraps the whole application."""

    def __init__(self, app: ASGIApp, seconds: Callable[[float], None]) -> None:
        """`seconds` is told how long each answer took to begin."""
        self._app, self._seconds = app, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        began, started = time.perf_counter(), False

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                self._seconds(time.perf_counter() - began)
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                if "cache-control" not in headers:
                    headers["cache-control"] = "no-store"
                if cookie := scope.get("state", {}).get("cookie"):
                    headers.append("set-cookie", cookie)
            await send(message)

        try:
            body = await asyncio.wait_for(_body(receive), MAX_BODY_S)
        except TimeoutError:
            await problem(408, f"it did not come within {MAX_BODY_S:.0f} seconds")(scope, receive, guarded)
            return
        except ClientDisconnect:  # half a form is none
            return
        if body is None:
            await problem(413, f"at most {MAX_BODY_BYTES} bytes")(scope, receive, guarded)
            return
        sent = False

        async def replay() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        try:
            await self._app(scope, replay, guarded)
        except Exception:  # whatever it is, it is told as a problem and not as a page of the server
            log.exception("%s %s failed", scope["method"], scope["path"])
            if not started:
                await problem(500, "an error of the desk; its log says more")(scope, receive, guarded)


async def _body(receive: Receive) -> bytes | None:
    """Return the whole body, None when it is too long."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        body += bytes(message.get("body", b""))
        if len(body) > MAX_BODY_BYTES:
            return None
        if not message.get("more_body"):
            return body
