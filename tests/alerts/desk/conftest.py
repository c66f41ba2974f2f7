"""A desk that is served, on a real Valkey, with alerts in it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest
import uvicorn
from prometheus_client import CollectorRegistry
from redis import Redis

from alerts.alert import Alert, alert_id
from alerts.desk.app import create_app
from alerts.desk.auth import Role
from alerts.desk.feedback_topic import Kafka
from alerts.desk.punctual import Punctual
from alerts.desk.settings import DeskSettings
from alerts.desk.state import Desk
from alerts.desk.stream import Stream
from alerts.store import AlertStore

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


class Served:
    """A desk in a thread. `client` speaks to it as who has the analyst's token, `reader` as who may read.

    What people say goes to `kafka`, where it is given.
    """

    def __init__(self, redis: Redis, kafka: Kafka = Kafka(), **settings: Any) -> None:  # noqa: B008 - it is frozen
        self.redis = redis
        self.desk = Desk(
            DeskSettings(**settings),
            redis,
            CollectorRegistry(),
            stream=Stream(None, "scored"),
            processes={},
            sentiments=("negative", "neutral", "positive"),
            topics=("Liquidity", "Earnings"),
            kafka=kafka,
        )
        self.app = create_app(self.desk)
        sock = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        config = uvicorn.Config(
            self.app, http=Punctual, log_config=None, proxy_headers=False, server_header=False,
            timeout_graceful_shutdown=2,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self.token, self.reader_token = self._token("jo", "analyst"), self._token("rea", "reader")
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [sock]}, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        self.client = self.as_(self.token)
        self.reader = self.as_(self.reader_token)

    def _token(self, name: str, role: Role) -> str:
        self.desk.tokens.revoke(name)  # of a desk that a test served before
        return self.desk.tokens.add(name, role)

    def as_(self, token: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {token}"}, trust_env=False)

    def close(self) -> None:
        self.client.close()
        self.reader.close()
        self._server.should_exit = True
        self._thread.join(20)


@pytest.fixture
def serve(store: Redis) -> Iterator[Callable[..., Served]]:
    """Serves desks with these settings."""
    served: list[Served] = []

    def make(**settings: Any) -> Served:
        served.append(Served(store, **settings))
        return served[-1]

    yield make
    for each in served:
        each.close()


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    """A desk as it is by default."""
    return serve()


@pytest.fixture
def put(store: Redis, alert: Alert) -> Callable[..., Alert]:
    """Stores an alert that began a while ago; what a test does not name is plain."""

    def make(series: str = "company=SIVB", minutes_ago: int = 10, **fields: Any) -> Alert:
        at = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=minutes_ago)
        id_ = alert_id(series, int(at.timestamp() // 60))
        name = series.partition("=")[2] or "the market"
        plain = {"id": id_, "series": series, "name": name, "started_at": at, "updated_at": at, "group": id_}
        made = msgspec.structs.replace(alert, **{**plain, **fields})
        AlertStore(store).put(made)
        return made

    return make


@pytest.fixture(scope="module")
def browser(service_program: Callable[[str, str], str]) -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    program = service_program("chromium", "chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def sign_in(browser: Browser, served: Any) -> Iterator[Callable[..., Page]]:
    """Opens the desk, signed in; what goes wrong in the page, and requests elsewhere, fail the test."""
    from playwright.sync_api import expect

    wrong: list[str] = []
    contexts = []

    def open_(width: int = 1000, scheme: str = "light", **more: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, **more)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith(served.url) else wrong.append(request.url))
        page.goto(f"{served.url}/alerts")
        page.get_by_label("Token").fill(served.token)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="Alerts")).to_be_visible()
        expect(page.locator("#link")).to_have_text("live")
        return page

    yield open_
    for context in contexts:
        for page in context.pages:
            page.goto("about:blank")  # Chromium may never close a page whose next one is just being taken over
        context.close()
    assert not wrong
