"""The first poll of a feed brings days of old items: old news is no surge. The same feed again counts nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from alerts.store import AlertStore
from ingest.document import Document
from ingest.publish import Publisher

pytestmark = pytest.mark.integration

OLD, FRESH = 500, 60


def rss(publisher: str, ticker: str, count: int, first_at: datetime, apart_s: float) -> bytes:
    """A feed of negative items on one company."""
    items = "".join(
        f"<item><guid>{n}</guid><title>[negative] {publisher} tells of case {n} at ${ticker}</title>"
        f"<pubDate>{format_datetime(first_at - timedelta(seconds=n * apart_s))}</pubDate></item>"
        for n in range(count)
    )
    return f'<rss version="2.0"><channel><title>t</title>{items}</channel></rss>'.encode()


@pytest.fixture
def feeds() -> Iterator[dict[str, Any]]:
    """A server of two feeds: one of old items, one (the control) whose items just happened."""
    now = datetime.now(UTC)
    bodies = {
        "/old": rss("old", "OLDCO", OLD, now - timedelta(hours=7), 600),
        "/fresh-a": rss("fresh-a", "FRESH", FRESH, now, 1),
        "/fresh-b": rss("fresh-b", "FRESH", FRESH, now, 1),
    }
    polls: dict[str, Any] = dict.fromkeys(bodies, 0)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            polls[self.path] += 1
            body = bodies[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=server.serve_forever, args=(0.05,))
    serving.start()
    yield polls | {"url": f"http://127.0.0.1:{server.server_port}", "polls": polls}
    server.shutdown()
    serving.join()
    server.server_close()


def publish_history(system: Any) -> int:
    """Two calm days: an item every five minutes, every tenth of them negative."""
    now = datetime.now(UTC)
    publisher = Publisher(system.kafka.bootstrap, system.topics.documents_topic)
    documents = []
    for n in range(576):
        at = now - timedelta(days=2) + timedelta(minutes=5 * n)
        lean = "negative" if n % 10 == 0 else "neutral"
        documents.append(
            Document(
                id=f"history-{n}", story=f"history-{n}", source="history", publisher=f"p{n % 9}",
                title=f"[{lean}] day {n}", published_at=at, seen_at=at, companies=("CALM", "FRESH"),
            )
        )  # fmt: skip
    publisher.publish(documents)
    publisher.close()
    return len(documents)


def test_old_items_of_a_first_poll_count_nowhere_and_nothing_counts_twice(
    make_system: Callable[..., Any], feeds: dict[str, Any]
) -> None:
    listed = ", ".join(
        f'{{"name":"{name}","url":"{feeds["url"]}/{name}","publisher":"{name}"}}'
        for name in ("old", "fresh-a", "fresh-b")
    )
    system = make_system(
        {
            "NEWSQUAKE_INGEST__RSS__FEEDS": f"[{listed}]",
            "NEWSQUAKE_INGEST__RSS__POLL_S": "1",
            "NEWSQUAKE_INGEST__RSS__HOST_GAP_S": "0",
            "NEWSQUAKE_ALERTS__SURGE__WARM_UP_H": "1",
            "NEWSQUAKE_ALERTS__GRACE_S": "0",
            "NEWSQUAKE_STREAM__SESSION_TIMEOUT_S": "6",
        }
    )
    history = publish_history(system)
    system.start_worker("stream")
    system.wait(lambda: system.unfinished(history), 60)
    system.start("alerts", "alerts", "--port", "0")
    system.start("ingest", "ingest", "--port", "0")
    system.wait(lambda: system.unfinished(history + OLD + 2 * FRESH), 60)

    # The control fires, so the old items could have.
    with system.redis() as client:
        store = AlertStore(client)
        system.wait(lambda: None if store.log() else "no alert yet", 150)
        told = {alert.series for alert in store.open()}
    assert not [series for series in told if "OLDCO" in series]
    counts = system.windows()
    assert counts == system.fold()
    assert not [series for series, _, _ in counts if "OLDCO" in series]
    assert sum(n for (series, _, _), n in counts.items() if series == "company=FRESH") == history + 2 * FRESH
    assert len([item for item in system.scored() if "OLDCO" in item.document.companies]) == OLD

    # A second run, and a third that has forgotten what it had read.
    for forget in (False, True):
        if forget:
            with system.redis() as client:
                client.delete(*client.scan_iter("nq:ingest:position:*"))
        before = dict(feeds["polls"])
        documents = len(system.read(system.topics.documents_topic))
        system.kill("ingest")
        system.wait(
            lambda before=before: None if all(feeds["polls"][p] > n + 1 for p, n in before.items()) else "polls", 60
        )
        again = len(system.read(system.topics.documents_topic)) - documents
        assert again == (OLD + 2 * FRESH if forget else 0)
        system.wait(system.unfinished, 60)
        assert system.windows() == counts
