"""What the desk reads once for all who look: a look at a series costs the same however many alerts there are."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from redis import Redis

from alerts.alert import Alert, encode
from alerts.desk.held import BySeries, Tables
from alerts.now import Now, Row, Table
from alerts.store import AlertStore

_ALWAYS = ("config|resetstat", "info", "get", "xread", "xrange", "xrevrange")
MARK, RECENT = "nq:{alerts}:now:minute", "nq:{alerts}:recent"


def calls(store: Redis) -> int:
    """How many commands Redis has answered since the last time, but for those that the desk sends all the time."""
    stats: Any = store.info("commandstats")
    count = sum(each["calls"] for name, each in stats.items() if name.removeprefix("cmdstat_") not in _ALWAYS)
    store.config_resetstat()
    return int(count)


def write(store: Redis, *series: str) -> None:
    """Write a table as alerting does."""
    rows = [
        Row(
            series=each, name=each, kind="company", state="normal", window_min=60, observed=3, others=17, expected=3.1,
            low=0, high=7, z=0.1, strength=0.1, share=0.15, items_min=0.3, usual_min=0.3, bin_min=60,
            negatives=[1, 2], totals=[3, 4], due=[1.0, 1.0], lows=[0, 0], highs=[3, 3],
        )
        for each in series
    ]  # fmt: skip
    made = Table(minute=29_000_000, written_at=time.time(), series=1, warming_up="", missing=0, rows=rows)
    store.set("nq:{alerts}:now", msgspec.msgpack.encode(made))
    store.incr(MARK)


def test_a_look_takes_few_commands_among_2000_alerts_of_others(
    served: Any, put: Callable[..., Alert], store: Redis
) -> None:
    write(store, "company=SIVB", "company=JPM")
    mine = [put(minutes_ago=10 * n + 1) for n in range(3)]
    life = store.get(f"nq:{{alerts}}:life:{mine[0].id}")
    with store.pipeline(transaction=False) as pipe:
        for n in range(2_000):
            id_ = f"{n:032x}"
            pipe.set(
                f"nq:{{alerts}}:alert:{id_}", encode(msgspec.structs.replace(mine[0], id=id_, series=f"company=C{n}"))
            )
            pipe.set(f"nq:{{alerts}}:life:{id_}", life or b"")
        pipe.zadd(RECENT, {f"{n:032x}": time.time() + n for n in range(2_000)})
        pipe.execute()
    path = "/api/v1/series?key=company%3DSIVB"
    calls(store)
    assert [each["id"] for each in served.reader.get(path).json()["alerts"]] == [each.id for each in mine]
    assert calls(store) < 40  # the first of all, which learns whose alerts are whose, 500 at a time
    for path in ("/api/v1/series?key=company%3DJPM", "/series?key=company%3DJPM"):
        store.incr(MARK)
        served.reader.get(path)
        assert calls(store) < 20
    for path in ("/api/v1/series?key=company%3DSIVB", "/series?key=company%3DSIVB"):
        store.incr(MARK)
        served.reader.get(path)
        first = calls(store)
        assert served.reader.get(path).status_code == 200
        assert calls(store) < min(first, 15)  # read for who came first
        assert first < 35


def test_a_table_is_decoded_once_for_each_that_is_written(store: Redis) -> None:
    now = [0.0]
    tables = Tables(Now(store), lambda: now[0])
    assert tables.read() is None
    write(store, "company=A")
    first = tables.read()
    assert first is not None
    assert list(first.rows) == ["company=A"]
    assert tables.read() is first
    write(store, "company=B")
    second = tables.read()
    assert second is not None
    assert list(second.rows) == ["company=B"]
    now[0] = 6
    assert tables.read() is not second
    store.delete(MARK)
    assert tables.read() is not tables.read()  # nothing says that it is the same
    store.delete("nq:{alerts}:now")
    store.incr(MARK)
    assert tables.read() is None


def test_alerts_are_found_by_their_series_as_they_come_move_and_go(store: Redis, put: Callable[..., Alert]) -> None:
    by_series = BySeries(store)
    old, new = put("topic=Liquidity", minutes_ago=60), put("topic=Liquidity")
    assert by_series.of("topic=Liquidity", 1) == [new.id, old.id]
    put("topic=Liquidity", minutes_ago=20, id="0" * 32)
    assert by_series.of("topic=Liquidity", 1) == [new.id, old.id]  # as it was at that standing
    assert by_series.of("topic=Liquidity", 2) == [new.id, "0" * 32, old.id]
    moved = {"series": "company=SIVB", "began_on": "topic=Liquidity", "moved_at": datetime.now(UTC), "revision": 9}
    AlertStore(store).put(msgspec.structs.replace(new, **moved))
    assert by_series.of("company=SIVB", 3) == [new.id]
    assert by_series.of("topic=Liquidity", 3) == [new.id, "0" * 32, old.id]
    store.zrem(RECENT, old.id)
    store.set(f"nq:{{alerts}}:alert:{'0' * 32}", b"of another version")
    store.zadd(RECENT, {"0" * 32: 1.0, b"\xff": 2.0})
    assert by_series.of("topic=Liquidity", 4) == [new.id]
    assert by_series.of("company=NOPE", 4) == []


def test_only_what_changed_is_read_again(store: Redis, put: Callable[..., Alert]) -> None:
    now = [0.0]
    by_series = BySeries(store, lambda: now[0])
    for n in range(5):
        put(f"company=C{n}")
    by_series.of("market", 1)
    calls(store)
    by_series.of("market", 1)
    assert calls(store) == 0
    by_series.of("market", 2)
    assert calls(store) == 1
    now[0] = 6
    by_series.of("market", 2)
    assert calls(store) == 1
    put("market")
    calls(store)
    assert len(by_series.of("market", 3)) == 1
    assert calls(store) == 2
