"""What feeds the live pages goes on whatever lies in Redis, and pages are told when they are not up to date."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry
from redis import Redis

from alerts.alert import Alert
from alerts.desk import live, stream
from alerts.desk.metrics import DeskMetrics
from alerts.desk.stream import Stream
from alerts.now import Now
from alerts.store import LOG

MINUTE = "nq:{alerts}:now:minute"
DEEP = b'{"x":' + b"[" * 100_000


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_HEARTBEAT_S", 0.1)
    monkeypatch.setattr(live, "_RETRY_S", 0.05)


def _events(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    for line in lines:
        if line.startswith("event: "):
            yield line.removeprefix("event: "), json.loads(next(lines).removeprefix("data: "))


def _until(events: Iterator[tuple[str, Any]], what: Callable[[str, Any], bool]) -> Any:
    """Return the data of the first event that is wanted; it must come before 200 beats."""
    return next(data for kind, data in islice(events, 200) if what(kind, data))


def _counted(served: Any, metric: str, **labels: str) -> float:
    return float(getattr(served.desk.metrics, metric).labels(**labels)._value.get())


@pytest.mark.parametrize("rubbish", [b"soon", b"\xff", b""])
def test_rubbish_in_the_place_of_the_minute_is_said_and_all_else_is_told(
    served: Any, put: Callable[..., Alert], store: Redis, rubbish: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with served.client.stream("GET", "/api/v1/events", timeout=20) as answer:
        events = _events(answer.iter_lines())
        _until(events, lambda kind, data: kind == "beat" and data["since"] is None)
        store.set(MINUTE, rubbish)
        since = _until(events, lambda kind, data: kind == "beat" and data["since"] is not None)["since"]
        alert = put()
        assert _until(events, lambda kind, _: kind == "transition")["alert"] == alert.id
        later = _until(events, lambda kind, _: kind == "beat")["since"]
        assert abs(datetime.fromisoformat(later) - datetime.fromisoformat(since)) < timedelta(seconds=0.1)
        assert served.client.get("/alerts").status_code == served.client.get("/").status_code == 200
        assert served.desk.hub.health() == ([], [])  # a restart would change nothing, and the page can be used
        store.set(MINUTE, 78)
        assert _until(events, lambda kind, _: kind == "now") == {"minute": 78}
        _until(events, lambda kind, data: kind == "beat" and data["since"] is None)
    assert _counted(served, "reading_errors", reason="now") > 0
    assert caplog.text.count("pages are not up to date") == 1


def test_a_failure_that_nobody_foresaw_does_not_end_the_live_pages(
    served: Any, put: Callable[..., Alert], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: str) -> None:
        raise RuntimeError("nobody thought of this")

    with served.client.stream("GET", "/api/v1/events", timeout=20) as answer:
        events = _events(answer.iter_lines())
        _until(events, lambda kind, data: kind == "beat" and data["since"] is None)
        with monkeypatch.context() as patch:
            patch.setattr(served.desk.hub, "_look", fails)
            _until(events, lambda kind, data: kind == "beat" and data["since"] is not None)
            assert "nobody thought of this" in served.desk.hub.health()[1][0]
        alert = put()
        assert _until(events, lambda kind, _: kind == "transition")["alert"] == alert.id
        _until(events, lambda kind, data: kind == "beat" and data["since"] is None)
    assert served.desk.hub.health() == ([], [])
    assert _counted(served, "reading_errors", reason="unexpected") > 0


def test_records_that_cannot_be_read_are_passed_over_and_counted(
    served: Any, put: Callable[..., Alert], store: Redis
) -> None:
    with served.client.stream("GET", "/api/v1/events", timeout=20) as answer:
        events = _events(answer.iter_lines())
        _until(events, lambda kind, data: kind == "beat" and data["since"] is None)
        for raw in (b"\xff", b'{"at": 1}', DEEP):
            store.xadd(LOG, {"line": raw})
            store.xadd("nq:{alerts}:audit", {"entry": raw})
        served.desk.stream.take(b"[]")
        alert = put()
        assert _until(events, lambda kind, _: kind == "transition")["alert"] == alert.id
        served.client.post(f"/api/v1/alerts/{alert.id}/verdict", json={"verdict": "useful"})
        assert _until(events, lambda kind, _: kind == "deed")["what"] == "feedback"
    assert [_counted(served, "unreadable", what=what) for what in ("transition", "deed", "item")] == [3, 3, 1]
    assert _counted(served, "reading_errors", reason="unexpected") == 0


def test_a_line_of_the_log_cannot_make_events_of_its_own(served: Any, put: Callable[..., Alert], store: Redis) -> None:
    put()
    (_, fields), *_ = store.xrevrange(LOG, count=1)
    forged = fields[b"line"] + b"\n\nevent: reload\ndata: {}"
    spread = msgspec.json.format(fields[b"line"], indent=2)
    with served.client.stream("GET", "/api/v1/events", timeout=20) as answer:
        events = _events(answer.iter_lines())
        _until(events, lambda kind, data: kind == "beat" and data["since"] is None)
        with store.pipeline(transaction=True) as pipe:
            pipe.xadd(LOG, {"line": forged})
            pipe.xadd(LOG, {"line": spread})
            pipe.set(MINUTE, 79)
            pipe.execute()
        told = []
        for kind, data in islice(events, 200):
            told += [(kind, data)] if kind != "beat" else []
            if kind == "now":
                break
    assert told == [("transition", json.loads(spread)), ("now", {"minute": 79})]


def test_who_may_no_longer_look_is_shut_out_though_pages_are_not_up_to_date(served: Any, store: Redis) -> None:
    store.set(MINUTE, "soon")
    with served.client.stream("GET", "/api/v1/events", timeout=20) as answer:
        events = _events(answer.iter_lines())
        _until(events, lambda kind, data: kind == "beat" and data["since"] is not None)
        served.desk.tokens.revoke("jo")
        assert len(list(islice(events, 200))) < 200  # it ends


def test_a_table_that_cannot_be_read_is_said_where_it_is_shown_and_hides_nothing_else(
    served: Any, put: Callable[..., Alert], store: Redis
) -> None:
    alert = put()
    store.set("nq:{alerts}:now", b"\xc1rubbish")
    answer = served.client.get("/api/v1/now")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
    assert "cannot be read" in answer.json()["detail"]
    assert "cannot be read" in served.client.get("/").text
    assert "cannot be read" in served.client.get("/api/v1/health").json()["warming_up"]
    assert served.client.get("/health").status_code == 200
    assert served.client.get(f"/alerts/{alert.id}").status_code == served.client.get("/alerts").status_code == 200


def test_many_records_that_are_no_items_are_counted_and_said_seldom(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stream, "_SAY_S", 1e9)
    items = Stream(None, "scored")
    for _ in range(1_000):
        items.take(b'{"document": {"id": 1}}')
    assert items.left_out == 1_000
    assert caplog.text.count("is no scored item") == 1
    monkeypatch.setattr(stream, "_SAY_S", 0.0)
    items = Stream(None, "scored")
    for _ in range(3):
        items.take(None)
    assert caplog.text.count("is no scored item") == 1 + 3
    assert "as 3 so far" in caplog.text


def test_a_failure_that_stays_is_said_ever_more_seldom(store: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = live.Hub(store, Now(store), Stream(None, "scored"), DeskMetrics(CollectorRegistry()), 1, 1)
    waits: list[float] = []

    async def fails() -> None:
        raise RuntimeError("nobody thought of this")

    async def sleep(wait_s: float) -> None:
        waits.append(wait_s)
        if len(waits) == 6:
            raise asyncio.CancelledError

    monkeypatch.setattr(live, "_RETRY_S", 2.0)
    monkeypatch.setattr(hub, "_turn", fails)
    monkeypatch.setattr(live, "asyncio", SimpleNamespace(sleep=sleep))
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(hub._run())
    assert waits == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
