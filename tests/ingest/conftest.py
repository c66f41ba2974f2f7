"""Servers that misbehave on purpose, and a way to read a source to its end."""

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from ingest.metrics import IngestMetrics

with warnings.catch_warnings():
    # On Python 3.11 and 3.12 kafka-python reads its schemas, while it is imported, by a function deprecated there.
    warnings.filterwarnings("ignore", "(read|open)_text is deprecated", DeprecationWarning)
    from deploy.local.servers import LocalValkey


@dataclass
class Answer:
    """One answer of the feed server: `body` may be bytes, or a function that writes to the raw socket itself."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    raw: Callable[[BaseHTTPRequestHandler], None] | None = None


class FeedServer:
    """Gives the answers it was told, in order; sets `stop` when it gives the last one."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests: list[tuple[float, str, dict[str, str]]] = []
        self.stop = threading.Event()
        self.closed = threading.Event()
        self.at_once = 0
        self.most_at_once = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer._answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        with self._lock:
            self.requests.append((time.monotonic(), handler.path, {k.lower(): v for k, v in handler.headers.items()}))
            answer = self.answers.pop(0) if self.answers else Answer(304)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            if not self.answers:
                self.stop.set()
        try:
            if answer.raw is not None:
                answer.raw(handler)
                return
            handler.send_response(answer.status)
            for name, value in answer.headers.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(answer.body)))
            handler.end_headers()
            handler.wfile.write(answer.body)
        except OSError:
            pass  # the client had enough, as it should
        finally:
            with self._lock:
                self.at_once -= 1

    def close(self) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def feed_server() -> Iterator[FeedServer]:
    server = FeedServer()
    yield server
    server.close()


@pytest.fixture
def answer() -> type[Answer]:
    return Answer


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> IngestMetrics:
    return IngestMetrics(registry)


@pytest.fixture
def counted(registry: CollectorRegistry) -> Callable[..., float]:
    """Value of a metric of the test's registry: `counted("newsquake_ingest_dropped_total", reason="empty")`."""

    def value(name: str, **labels: str) -> float:
        return sum(
            sample.value
            for metric in registry.collect()
            for sample in metric.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    return value


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with LocalValkey(Path(tmp_path_factory.mktemp("valkey"))) as valkey:
        yield valkey.url
