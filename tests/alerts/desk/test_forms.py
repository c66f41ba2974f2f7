"""Forms of the pages and heads of requests, hostile in each field, which the API's description does not name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, get_args, get_type_hints
from urllib.parse import urlencode

import httpx
from fastapi.routing import APIRoute
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from redis import Redis

from alerts.alert import Alert
from alerts.desk.app import create_app
from alerts.desk.pages import act, router
from alerts.desk.settings import DeskSettings
from alerts.desk.state import Desk
from alerts.desk.stream import Stream

TAG = "<xyzzy"
FIELDS = (
    "csrf", "next", "token", "theme", "keys", "reason", "minutes", "verdict", "story", "title", "about", "label",
    "taken_back", "matchers", "text", "what", "length", "until", "zone", f"alert-{'0' * 32}", "other",
)  # fmt: skip
PLACES = tuple(
    route.path.replace("{verb}", verb)
    for route in router.routes
    if isinstance(route, APIRoute) and "POST" in (route.methods or ())
    for verb in (get_args(get_type_hints(act)["verb"]) if "{verb}" in route.path else ("",))
)

usual = st.sampled_from(
    ("", "0", "60", "9" * 9, "-1", "1e3", "company=JPM", "sentiment", "topic", "Liquidity", "true", "silence",
     "length", "until", "90m", "2026-12-02T09:00", "Europe/London")
)  # fmt: skip
text = st.one_of(usual, st.text(max_size=60), st.text(max_size=20).map(lambda each: f'{each}">{TAG} onload=1>{each}'))
huge = st.builds(lambda each, times: each * times, st.sampled_from(["x", "\0", "é", TAG, "9"]), st.just(12_000))
fields = st.lists(st.tuples(st.sampled_from(FIELDS), st.one_of(text, text, text, huge)), max_size=12)
bodies = st.one_of(fields.map(lambda pairs: urlencode(pairs).encode()), st.binary(max_size=200))
cookies = st.one_of(st.binary(max_size=200), text.map(lambda each: f"nq_theme={each}; nq_keys={each}".encode()))
session = st.sampled_from(["none", "rubbish", "no csrf", "csrf"])


def _desk(store: Redis, **more: Any) -> Desk:
    return Desk(
        DeskSettings(logins_a_minute=1_000, **more),
        store,
        CollectorRegistry(),
        stream=Stream(None, "scored"),
        processes={},
        sentiments=("negative", "neutral"),
        topics=("Liquidity",),
    )


def _state(store: Redis) -> dict[bytes, Any]:
    """All that stands in Redis, but for what tells of attempts."""
    attempts = (b"nq:{desk}:audit:refused", b"nq:{desk}:logins:")
    return {key: store.dump(key) for key in store.scan_iter() if not key.startswith(attempts)}


def test_no_form_fails_or_changes_anything_unasked_or_shows_markup(store: Redis, put: Callable[..., Alert]) -> None:
    desk, alert = _desk(store), put()
    app = create_app(desk)
    token = desk.tokens.check(desk.tokens.add("jo", "analyst"))
    assert token is not None

    async def ask(method: str, path: str, **more: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://desk") as client:
            return await client.request(method, path, **more)

    def try_form(place: str) -> None:
        @settings(max_examples=10, deadline=None, database=None)
        @given(bodies, cookies, session)
        def check(body: bytes, cookie: bytes, who: str) -> None:
            path = place.format(alert_id=alert.id, silence_id="s1")
            mine, identity = desk.sessions.begin("jo", "analyst", token.id)
            if who == "csrf":
                body = b"csrf=" + identity.csrf.encode() + b"&" + body.replace(b"csrf=", b"other=")
            if who != "none":
                named = mine.encode() if who != "rubbish" else b"x" * 43
                cookie = b"nq_session=" + named + b"; " + cookie
            before = _state(store)
            headers = {"cookie": cookie, "content-type": "application/x-www-form-urlencoded"}
            answer = asyncio.run(ask("POST", path, content=body, headers=headers))
            assert answer.status_code < 500
            assert TAG not in answer.text
            if who != "csrf":
                assert _state(store) == before
                assert place in ("/signin", "/theme", "/keys") or answer.status_code in (303, 403, 413, 422)
                return
            gone = place == "/signout" and answer.status_code == 303
            shown = {"cookie": b"nq_session=" + mine.encode()}
            for page in (f"/alerts/{alert.id}", "/silences", "/audit"):
                found = asyncio.run(ask("GET", page, headers=shown))
                assert found.status_code == (303 if gone else 200)
                assert TAG not in found.text

        check()

    for place in PLACES:
        try_form(place)


HEADERS = (
    "authorization", "cookie", "content-type", "host", "origin", "referer", "sec-fetch-site", "x-csrf-token",
    "x-forwarded-for", "x-forwarded-proto", "x-refresh", "x-user",
)  # fmt: skip
values = st.one_of(
    st.sampled_from([b"Bearer ", b"bearer nqd_", b"Bearer nqd_0123456789ab_" + b"A" * 43, b"http://[", b"\xff\xfe"]),
    st.binary(max_size=80),
    text.map(lambda each: b"Bearer " + each.encode()),
)


def test_no_head_of_a_request_fails_or_lets_anybody_in(store: Redis, put: Callable[..., Alert]) -> None:
    desk, alert = _desk(store, proxy_header="X-User", trusted_proxies=("10.0.0.0/8",), proxy_analysts=("*",)), put()
    app = create_app(desk)
    desk.tokens.add("jo", "analyst")

    async def ask(method: str, path: str, headers: list[tuple[bytes, bytes]]) -> int:
        transport = httpx.ASGITransport(app, client=("192.0.2.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://desk") as client:
            return (await client.request(method, path, headers=headers, content=b"{}")).status_code

    @settings(max_examples=60, deadline=None, database=None)
    @given(st.lists(st.tuples(st.sampled_from(HEADERS).map(str.encode), values), max_size=5))
    def check(headers: list[tuple[bytes, bytes]]) -> None:
        before = _state(store)
        for method, path in (("GET", "/api/v1/me"), ("GET", "/alerts"), ("POST", f"/api/v1/alerts/{alert.id}/resolve")):
            assert asyncio.run(ask(method, path, headers)) in (303, 400, 401, 403)
        assert _state(store) == before

    check()
