import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest
import redis
from prometheus_client import CollectorRegistry

from ingest import worker as worker_module
from ingest.cursor import PositionError
from ingest.document import Document
from ingest.item import compose
from ingest.publish import PublishError, Refused
from ingest.settings import IngestSettings
from ingest.sources import Fetched, SourceError, SourceGoneError, SourceSettingsError
from ingest.worker import IngestError, IngestSettingsError, IngestWorker

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def documents(name: str, start: int, count: int) -> list[Document]:
    return [
        compose(source=name, publisher="p", key=f"{name}{n}", title=f"{name} {n}", published_at=NOW, seen_at=NOW)
        for n in range(start, start + count)
    ]


class Steps:
    """A source of `total` batches of three; fails where it is told to, each time once."""

    def __init__(self, name: str, total: int = 5, fail_at: dict[int, Exception] | None = None) -> None:
        self.name, self.total, self.fail_at = name, total, dict(fail_at or {})
        self.trouble = ""
        self.started_from: list[object] = []

    def run(self, position: object | None, stop: threading.Event) -> Iterator[Fetched]:
        self.started_from.append(position)
        for step in range(cast("int", position or 0), self.total):
            if step in self.fail_at:
                raise self.fail_at.pop(step)
            yield Fetched(documents(self.name, step * 3, 3), step + 1)


class FakePublisher:
    """Keeps what is published; fails as often as it is told to."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        self.failures = 0
        self.refuse: set[str] = set()
        self.on_publish: Callable[[], None] = lambda: None

    def connect(self) -> None:
        self._maybe_fail()

    def publish(self, batch: Sequence[Document]) -> list[Refused]:
        self.on_publish()
        self._maybe_fail()
        self.titles += [d.title for d in batch if d.title not in self.refuse]
        return [Refused(d, "too large") for d in batch if d.title in self.refuse]

    def close(self) -> None:
        pass

    def _maybe_fail(self) -> None:
        if self.failures > 0:
            self.failures -= 1
            raise PublishError("Kafka is away")


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
def make(
    monkeypatch: pytest.MonkeyPatch, publisher: FakePublisher, redis_url: str, registry: CollectorRegistry
) -> Callable[..., IngestWorker]:
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()

    registries = [registry]  # a second worker in a test gets one of its own

    def build(*sources: Any) -> IngestWorker:
        monkeypatch.setattr(worker_module, "Publisher", lambda *args, **options: publisher)
        monkeypatch.setattr(worker_module, "build_sources", lambda settings, metrics: list(sources))
        return IngestWorker(
            IngestSettings(max_backoff_s=0.02),
            bootstrap_servers="unused:1",
            documents_topic="documents",
            redis_url=redis_url,
            registry=registries.pop(0) if registries else CollectorRegistry(),
        )

    return build


def expected(name: str, total: int = 5) -> list[str]:
    return [f"{name} {n}" for n in range(total * 3)]


def test_sources_run_side_by_side_to_their_end(make: Any, publisher: FakePublisher, counted: Any) -> None:
    worker = make(Steps("a"), Steps("b", total=40))
    worker.run(threading.Event())
    assert [t for t in publisher.titles if t.startswith("a ")] == expected("a")
    assert [t for t in publisher.titles if t.startswith("b ")] == expected("b", 40)
    assert counted("newsquake_ingest_documents_total", source="b") == 120
    assert counted("newsquake_ingest_sources", state="finished") == 2
    assert worker.health() == ([], [])


def test_a_source_that_fails_goes_on_from_its_position_and_harms_no_other(
    make: Any, publisher: FakePublisher, counted: Any
) -> None:
    flaky = Steps("a", fail_at={0: SourceError("not yet"), 2: ZeroDivisionError(), 4: RecursionError()})
    make(flaky, Steps("b")).run(threading.Event())
    assert [t for t in publisher.titles if t.startswith("a ")] == expected("a")
    assert [t for t in publisher.titles if t.startswith("b ")] == expected("b")
    assert flaky.started_from == [None, None, 2, 4]
    assert counted("newsquake_ingest_source_restarts_total", source="a") == 3


def test_kafka_away_means_waiting_not_losing(make: Any, publisher: FakePublisher, counted: Any) -> None:
    source = Steps("a")
    publisher.failures = 2  # at the start
    away = iter([True, True, False, True, False, False, True])
    publisher.on_publish = lambda: setattr(publisher, "failures", max(publisher.failures, int(next(away, False))))
    make(source).run(threading.Event())
    assert publisher.titles == expected("a")
    assert source.started_from == [None]
    assert counted("newsquake_ingest_retries_total", server="kafka") == 6


def test_redis_away_means_waiting_not_skipping(make: Any, publisher: FakePublisher, counted: Any) -> None:
    worker = make(Steps("a"))
    real, down = worker._positions, iter([True, True, False, True, False, True, True])

    class Flaky:
        def __getattr__(self, name: str) -> Any:
            def call(*args: object) -> Any:
                if name != "close" and next(down, False):
                    raise PositionError("Redis is away")
                return getattr(real, name)(*args)

            return call

    worker._positions = Flaky()
    worker.run(threading.Event())
    assert publisher.titles == expected("a")
    assert counted("newsquake_ingest_retries_total", server="redis") == 5


def test_the_position_moves_only_after_the_documents_are_out(make: Any, publisher: FakePublisher) -> None:
    stop = threading.Event()

    def die() -> None:
        if len(publisher.titles) >= 6:
            publisher.failures = 10**9
            stop.set()

    publisher.on_publish = die
    make(Steps("a")).run(stop)
    assert publisher.titles == expected("a", 2)
    publisher.failures, publisher.on_publish = 0, lambda: None
    again = Steps("a")
    make(again).run(threading.Event())
    assert again.started_from == [2]
    assert publisher.titles == expected("a")


def test_what_kafka_will_never_take_is_counted_and_the_rest_goes_on(
    make: Any, publisher: FakePublisher, counted: Any
) -> None:
    publisher.refuse = {"a 4"}
    make(Steps("a")).run(threading.Event())
    assert publisher.titles == [t for t in expected("a") if t != "a 4"]
    assert counted("newsquake_ingest_dropped_total", reason="refused") == 1
    assert counted("newsquake_ingest_documents_total", source="a") == 14


def test_a_source_that_is_gone_ends_alone_and_is_told_at_the_end(make: Any, publisher: FakePublisher) -> None:
    worker = make(Steps("a", fail_at={1: SourceGoneError("file x is missing")}), Steps("b"))
    with pytest.raises(IngestError, match="file x is missing"):
        worker.run(threading.Event())
    assert [t for t in publisher.titles if t.startswith("b ")] == expected("b")


def test_wrong_settings_of_a_source_are_told_apart_from_bad_luck(make: Any) -> None:
    """Under a supervisor the one must not be tried again and again, the other must."""
    with pytest.raises(IngestSettingsError, match="no such column"):
        make(Steps("a", fail_at={0: SourceSettingsError("no such column")}), Steps("b")).run(threading.Event())
    with pytest.raises(IngestError) as caught:
        make(Steps("a", fail_at={0: SourceGoneError("410")})).run(threading.Event())
    assert not isinstance(caught.value, IngestSettingsError)


def test_stop_while_waiting_for_kafka_at_the_start(make: Any, publisher: FakePublisher) -> None:
    publisher.failures = 10**9
    worker, stop = make(Steps("a")), threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    while not any("Kafka is away" in reason for reason in worker.health()[1]):
        stop.wait(0.01)
    assert worker.health()[0] == []
    stop.set()
    thread.join(20)
    assert not thread.is_alive()
    assert publisher.titles == []


def test_health_says_when_every_source_is_in_trouble(make: Any, publisher: FakePublisher) -> None:
    one, other, go = Steps("a", total=1), Steps("b", total=1), threading.Event()
    publisher.on_publish = lambda: cast("None", go.wait(20))
    worker, stop = make(one, other), threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    while not (one.started_from and other.started_from):
        stop.wait(0.01)
    one.trouble = "example.com answered 500"
    assert worker.health() == ([], [])
    other.trouble = "no network"
    assert worker.health()[0] == []
    assert "example.com answered 500" in worker.health()[1][0]
    go.set()
    thread.join(20)
    assert not thread.is_alive()


def test_nothing_to_do_is_said(make: Any) -> None:
    with pytest.raises(IngestError, match="no source is switched on"):
        make().run(threading.Event())
