import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from ingest.document import Document, decode, encode
from ingest.metrics import IngestMetrics
from ingest.settings import BlueskySettings, IngestSettings
from ingest.sources import build_sources
from ingest.sources.bluesky import BlueskySource

START_US = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp() * 1_000_000)


def post(number: int, text: str | None = None, *, at: int | None = None, **record: Any) -> str:
    """The event of post `number`, a second after the one before."""
    return json.dumps(
        {
            "did": f"did:plc:{number % 7}",
            "time_us": START_US + (number if at is None else at) * 1_000_000,
            "kind": "commit",
            "commit": {
                "operation": "create",
                "collection": "app.bsky.feed.post",
                "rkey": f"r{number}",
                "record": {
                    "text": f"bank run number {number}" if text is None else text,
                    "createdAt": "2026-02-01T00:00:00.000Z",
                    "langs": ["en"],
                }
                | record,
            },
        }
    )


class Jetstream:
    """Plays one script a connection, then closes it; sets `stop` when a client comes back after the last."""

    def __init__(self) -> None:
        self.scripts: list[Callable[[ServerConnection, int], None]] = []
        self.cursors: list[int | None] = []
        self.stop = threading.Event()
        self._server = serve(self._handle, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}/subscribe"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def _handle(self, connection: ServerConnection) -> None:
        query = parse_qs(urlsplit(connection.request.path if connection.request else "").query)
        cursor = int(query["cursor"][0]) if "cursor" in query else None
        self.cursors.append(cursor)
        if not self.scripts:  # it comes back only when it has read everything
            self.stop.set()
            return
        with suppress(ConnectionClosed):
            self.scripts.pop(0)(connection, cursor or 0)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()


@pytest.fixture
def jetstream() -> Iterator[Jetstream]:
    server = Jetstream()
    yield server
    server.close()


@pytest.fixture
def read(jetstream: Jetstream, metrics: IngestMetrics) -> Callable[..., tuple[list[Document], Any]]:
    def run(*scripts: Any, position: Any = None, **options: Any) -> tuple[list[Document], Any]:
        jetstream.scripts = list(scripts)
        jetstream.stop.clear()
        settings = BlueskySettings(**{"enabled": True, "url": jetstream.url, "max_backoff_s": 0.02} | options)
        documents = []
        for fetched in BlueskySource(settings, "t", metrics).run(position, jetstream.stop):
            documents += fetched.documents
            position = json.loads(json.dumps(fetched.position))
        for document in documents:
            assert decode(encode(document)) == document
        return documents, position

    return run


def say(*messages: str | bytes) -> Callable[[ServerConnection, int], None]:
    def script(connection: ServerConnection, cursor: int) -> None:
        for message in messages:
            connection.send(message)

    return script


def test_a_server_that_drops_repeats_and_reorders_loses_and_doubles_nothing(jetstream: Jetstream, read: Any) -> None:
    events = list(range(200))
    for n in range(0, 190, 7):  # reordered by up to three seconds
        events[n], events[n + 3] = events[n + 3], events[n]

    def part(until: int) -> Callable[[ServerConnection, int], None]:
        def script(connection: ServerConnection, cursor: int) -> None:
            for n in itertools.takewhile(lambda n: n != until, events):
                if START_US + n * 1_000_000 >= cursor:
                    connection.send(post(n))
                    if n % 5 == 0:
                        connection.send(post(n))  # twice
            if until >= 0:
                connection.socket.close() if until % 2 else connection.close(1011)  # without and with a goodbye

        return script

    documents, position = read(part(40), part(41), part(97), part(150), part(-1))
    assert sorted(d.title for d in documents) == sorted(f"bank run number {n}" for n in range(200))
    assert position["cursor"] == START_US + 199 * 1_000_000
    assert jetstream.cursors[0] is None
    assert all(cursor is not None for cursor in jetstream.cursors[1:])


def test_a_restart_resumes_shortly_before_and_repeats_nothing(jetstream: Jetstream, read: Any) -> None:
    first, position = read(say(*(post(n) for n in range(20))))
    second, _ = read(say(*(post(n) for n in range(14, 30))), position=position)
    assert len(first) == 20
    assert [d.title for d in second] == [f"bank run number {n}" for n in range(20, 30)]
    assert jetstream.cursors[2] == START_US + 14 * 1_000_000


def test_what_is_taken(read: Any) -> None:
    reply = json.loads(post(5))
    reply["commit"]["operation"] = "update"
    like = json.loads(post(6))
    like["commit"]["collection"] = "app.bsky.feed.like"
    documents, _ = read(
        say(
            post(1, "Nice weather"),
            post(2, "My $AAPL is up"),
            post(3, "BANK RUN!"),
            post(4, "a bank runner"),
            json.dumps(reply),
            json.dumps(like),
            post(7, langs=["de"]),
            post(8, langs=None),
            json.dumps({"did": "did:plc:x", "time_us": START_US, "kind": "identity"}),
            post(9, "$5 for $USD"),
        )
    )
    assert [d.title for d in documents] == ["My $AAPL is up", "BANK RUN!", "bank run number 8"]
    taken = documents[0]
    assert taken.companies == ("AAPL",)
    assert taken.publisher == "bsky:did:plc:2"
    assert taken.url == "https://bsky.app/profile/did:plc:2/post/r2"
    assert taken.published_at == datetime(2026, 2, 1, tzinfo=UTC)


def test_hostile_messages_are_counted_and_spoil_nothing(read: Any, counted: Any) -> None:
    nasty: list[str | bytes] = [
        "not json",
        b"\xff\xfe",
        "[" * 50_000,
        "{}",
        json.dumps({"did": 1, "time_us": "x", "kind": []}),
        post(1, text=["a"]),  # type: ignore[arg-type]  # wrong on purpose
        post(2, at=10**12),
        post(3, at=-(10**12)),
        post(4, "bank run \ud800 \x00"),
        post(5, createdAt="9999-12-31T23:59:59-14:00"),
        post(6, createdAt="nonsense"),
        post(7, createdAt="3026-01-01T00:00:00Z"),
    ]
    documents, position = read(say(*nasty, post(50)))
    assert "bank run number 50" in [d.title for d in documents]
    assert position["cursor"] == START_US + 50 * 1_000_000
    assert all(d.published_at <= d.seen_at for d in documents)
    assert counted("newsquake_ingest_dropped_total", reason="bad_message") >= 7


def test_an_idle_or_oversized_connection_is_made_anew(read: Any, counted: Any) -> None:
    def silent(connection: ServerConnection, cursor: int) -> None:
        with suppress(TimeoutError):
            connection.recv(timeout=20)

    documents, _ = read(silent, say("x" * 5_000), say(post(1)), idle_timeout_s=1.5, max_message_bytes=2_000)
    assert len(documents) == 1
    assert counted("newsquake_ingest_reconnects_total", reason="idle") >= 1
    assert counted("newsquake_ingest_reconnects_total", reason="too_large") == 1


def test_off_unless_switched_on(metrics: IngestMetrics) -> None:
    quiet = IngestSettings.model_validate({"rss": {"enabled": False}})
    assert build_sources(quiet, metrics) == []
    on = IngestSettings.model_validate({"rss": {"enabled": False}, "bluesky": {"enabled": True}})
    assert [source.name for source in build_sources(on, metrics)] == ["bluesky"]
