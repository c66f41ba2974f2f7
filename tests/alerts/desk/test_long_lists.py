"""Lists of all alerts are read a part at a time: each alert once, in order, and no more of them than are shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from alerts import listing
from alerts.alert import Alert
from alerts.listing import Listing
from alerts.store import RECENT, STARTED, AlertStore


@pytest.fixture
def made(put: Callable[..., Alert]) -> list[Alert]:
    """Forty alerts, the newest first, of which every third fires still; two began at the same time."""
    found = [
        put(f"company=C{number}", minutes_ago=max(number, 1), status="resolved" if number % 3 else "firing")
        for number in range(40)
    ]
    return sorted(found, key=lambda alert: (alert.started_at, alert.id), reverse=True)


def pages(served: Any, state: str, limit: int) -> list[Any]:
    """Every page of a list, one after the other."""
    found: list[Any] = []
    after = ""
    while not found or found[-1]["more"]:
        assert len(found) < 100
        answer = served.client.get(f"/api/v1/alerts?state={state}&limit={limit}&after={after}")
        assert answer.status_code == 200, answer.text
        found.append(answer.json())
        if found[-1]["alerts"]:
            after = found[-1]["alerts"][-1]["id"]
    return found


@pytest.mark.parametrize("limit", [1, 7, 40, 41])
@pytest.mark.parametrize("state", ["all", "resolved"])
def test_each_is_listed_once_and_in_order(served: Any, made: list[Alert], state: str, limit: int) -> None:
    wanted = [alert.id for alert in made if state == "all" or alert.status == "resolved"]
    found = pages(served, state, limit)
    assert [each["id"] for page in found for each in page["alerts"]] == wanted
    assert [page["more"] for page in found] == [max(0, len(wanted) - limit * n) for n in range(1, len(found) + 1)]
    assert found[0]["counts"] == {"firing": 14, "acknowledged": 0, "silenced": 0}


@pytest.mark.parametrize("state", ["all", "resolved"])
def test_no_more_are_read_than_are_shown(served: Any, made: list[Alert], store: Redis, state: str) -> None:
    after = made[19].id
    assert made[19].status == "resolved"
    store.config_resetstat()
    found = served.client.get(f"/api/v1/alerts?state={state}&limit=5&after={after}").json()
    assert (len(found["alerts"]), found["more"]) == (5, 15 if state == "all" else 8)
    stats: Any = store.info("commandstats")
    assert stats["cmdstat_lrange"]["calls"] == 1 + 5  # the history of the last one seen, and those of what is shown


def test_one_that_is_not_in_the_list_is_no_place_in_it(served: Any, made: list[Alert]) -> None:
    fires = next(alert for alert in made if alert.status == "firing")
    for state, after, words in (("resolved", fires.id, ""), ("all", fires.id, "JPM"), ("all", "0" * 32, "")):
        answer = served.client.get(f"/api/v1/alerts?state={state}&after={after}&q={words}")
        assert (answer.status_code, answer.json()["detail"]) == (404, "the list has no such alert (any more)")


def test_what_is_gone_or_cannot_be_read_leaves_no_gap(served: Any, made: list[Alert], store: Redis) -> None:
    for n in (0, 3, 4, 5, 39):
        store.set(f"nq:{{alerts}}:alert:{made[n].id}", b"of another version")
    store.delete(f"nq:{{alerts}}:alert:{made[6].id}")
    wanted = [alert.id for n, alert in enumerate(made) if n not in (0, 3, 4, 5, 6, 39)]
    for limit in (3, 34):
        found = pages(served, "all", limit)
        assert [each["id"] for page in found for each in page["alerts"]] == wanted
        assert {len(page["alerts"]) for page in found[:-1]} <= {limit}


@pytest.mark.parametrize("chunk", [2, 500])
def test_a_search_goes_on_until_it_has_enough(
    served: Any, made: list[Alert], monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(listing, "_CHUNK", chunk)
    wanted = [alert.id for alert in made if "C3" in alert.name]
    after, found = "", list[str]()
    for _ in range(len(wanted)):
        answer = served.client.get(f"/api/v1/alerts?state=all&q=c3&limit=1&after={after}").json()
        found += [each["id"] for each in answer["alerts"]]
        assert bool(answer["more"]) == (len(found) < len(wanted))
        after = found[-1]
    assert found == wanted
    monkeypatch.setattr(listing, "MOST", 30)
    answer = served.client.get("/api/v1/alerts?state=all&q=c39").json()
    assert (answer["alerts"], answer["more"]) == ([], 0)  # further back nobody looks


def test_what_a_version_before_stored_is_listed_and_what_is_not_kept_is_not(
    served: Any, made: list[Alert], store: Redis
) -> None:
    store.zrem(STARTED, *(alert.id for alert in made[:20]))
    store.zadd(STARTED, {"of old": 1.0})
    store.zadd(RECENT, {b"\xff": 2e9})
    found = served.client.get("/api/v1/alerts?state=all&limit=1000").json()
    assert [each["id"] for each in found["alerts"]] == [alert.id for alert in made]
    assert set(store.zrange(STARTED, 0, -1)) == set(store.zrange(RECENT, 0, -1))
    store.delete(STARTED)
    page = served.client.get("/alerts?state=all&limit=10").text
    assert made[0].name in page
    assert "Show more (30)" in page or "Show more (31)" in page


def test_as_many_but_others_are_found_too(store: Redis, made: list[Alert]) -> None:
    store.zrem(STARTED, *(alert.id for alert in made[:2]))
    store.zadd(STARTED, {"of old": 1.0, "older": 2.0})
    part = Listing(store, AlertStore(store)).part(3)
    assert part is not None
    assert [view.alert.id for view in part.views] == [alert.id for alert in made[:3]]
    assert set(store.zrange(STARTED, 0, -1)) == set(store.zrange(RECENT, 0, -1))


def test_after_90_days_it_leaves_the_list(store: Redis, put: Callable[..., Alert]) -> None:
    old, new = put("company=OLD"), put("company=NEW")
    store.zadd(RECENT, {old.id: 1.0})
    AlertStore(store).step(new.id, lambda view: None)
    put("company=NEWER")
    for key in (RECENT, STARTED):
        assert old.id.encode() not in set(store.zrange(key, 0, -1))
        assert new.id.encode() in set(store.zrange(key, 0, -1))


def test_what_is_put_back_is_listed_where_it_was(store: Redis, put: Callable[..., Alert]) -> None:
    made = [put(f"company=C{number}", minutes_ago=number + 1) for number in range(3)]
    alerts = AlertStore(store)
    views = [alerts.view(alert.id) for alert in made]
    store.flushall()
    for view in (views[1], views[0], views[2]):
        assert view is not None
        assert alerts.restore(view)
    part = Listing(store, alerts).part(10)
    assert part is not None
    assert part.views == views


def test_new_ones_that_come_meanwhile_repeat_none(
    store: Redis, made: list[Alert], put: Callable[..., Alert], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, calls = AlertStore.find, list[int]()

    def find(self: AlertStore, ids: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            for number in range(3):
                put(f"company=NEW{number}", minutes_ago=0)
        return usual(self, ids)

    monkeypatch.setattr(AlertStore, "find", find)
    store.set(f"nq:{{alerts}}:alert:{made[1].id}", b"of another version")
    part = Listing(store, AlertStore(store)).part(10)
    assert part is not None
    assert [view.alert.id for view in part.views] == [alert.id for alert in made if alert is not made[1]][:10]
