"""Several alerts at once: each is done for itself, and it is said of each what became of it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from redis import Redis, RedisError
from redis.connection import Connection

from alerts.alert import Alert
from alerts.desk.auth import Identity
from alerts.desk.deeds import Deeds
from alerts.desk.together import MOST, together
from alerts.silences import Silences
from alerts.store import AlertStore

GONE = "0" * 32
PATH = "/api/v1/deeds"


@pytest.fixture
def three(put: Callable[..., Alert]) -> list[Alert]:
    return [put(f"company=C{number}", minutes_ago=10 + number) for number in range(3)]


@pytest.fixture
def browser(served: Any) -> Iterator[httpx.Client]:
    """Somebody signed in whose browser runs no scripts."""
    with httpx.Client(base_url=served.url, trust_env=False, follow_redirects=True) as client:
        client.post("/signin", data={"token": served.token})
        yield client


def states(served: Any) -> dict[str, str]:
    return {each["name"]: each["state"] for each in served.client.get("/api/v1/alerts?state=all").json()["alerts"]}


def test_each_is_done_or_says_why_not(served: Any, three: list[Alert]) -> None:
    served.client.post(f"/api/v1/alerts/{three[1].id}/acknowledge", json={})
    ids = [three[0].id, three[1].id, GONE, three[2].id, three[0].id]
    told = served.client.post(PATH, json={"what": "acknowledge", "alerts": ids, "reason": "one thing"}).json()
    assert told["done"] == 2
    assert [(each["alert"], each["name"], each["status"]) for each in told["outcomes"]] == [
        (three[0].id, "C0", 200), (three[1].id, "C1", 409), (GONE, GONE, 404), (three[2].id, "C2", 200),
    ]  # fmt: skip
    assert [each["detail"] for each in told["outcomes"]][::3] == ["acknowledged"] * 2
    assert told["outcomes"][1]["detail"].startswith("the alert was acknowledged by jo at")
    assert set(states(served).values()) == {"acknowledged"}
    audit = [
        (each["what"], each["target"], each["detail"]) for each in served.client.get("/api/v1/audit").json()["entries"]
    ]
    assert audit[:2] == [("acknowledge", three[2].id, "one thing"), ("acknowledge", three[0].id, "one thing")]
    assert len(audit) == 3
    told = served.client.post(PATH, json={"what": "resolve", "alerts": ids[:2]}).json()
    assert [each["detail"] for each in told["outcomes"]] == ["resolved"] * 2
    assert states(served) == {"C0": "resolved", "C1": "resolved", "C2": "acknowledged"}


def test_each_is_silenced_for_itself(served: Any, three: list[Alert], store: Redis) -> None:
    body = {"what": "silence", "alerts": [each.id for each in three[:2]], "minutes": 60, "reason": "known"}
    told = served.client.post(PATH, json=body).json()
    assert told["done"] == 2
    assert all(re.fullmatch(r"silenced until .* UTC", each["detail"]) for each in told["outcomes"])
    laid = Silences(store).all()
    assert {str(each.matchers[0]) for each in laid} == {'series="company=C0"', 'series="company=C1"'}
    assert [each["what"] for each in served.client.get("/api/v1/audit").json()["entries"]] == ["silence"] * 2
    for wrong in ({"minutes": None}, {"reason": " "}):
        assert served.client.post(PATH, json=body | wrong).status_code == 422


def test_many_are_silenced_in_a_few_calls_each_with_its_own_step_entry_and_outcome(
    served: Any, put: Callable[..., Alert], store: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [put(f"company=C{number}", minutes_ago=number) for number in range(40)]
    twin = put("company=C0", minutes_ago=50)
    served.client.post(f"/api/v1/alerts/{made[1].id}/silence", json={"minutes": 30, "reason": "else"})
    ids = [made[0].id, GONE, *(each.id for each in made[1:]), twin.id]
    deeds = Deeds(served.desk, Identity(name="jo", role="analyst"), "127.0.0.1")
    calls, usual, here = [], Connection.send_packed_command, threading.get_ident()

    def send(connection: Any, *args: Any, **more: Any) -> Any:
        if threading.get_ident() == here:  # others ask for what is new meanwhile
            calls.append(args)
        return usual(connection, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "send_packed_command", send)
        told = together(served.desk.store, deeds, "silence", ids, "known", 60)
    assert len(calls) <= 40
    assert told.done == 41
    assert [(each.alert, each.status) for each in told.outcomes] == [(id_, 404 if id_ == GONE else 200) for id_ in ids]
    laid = Silences(store).all()
    assert len(laid) == 1 + 40  # one over both alerts of C0
    views = {view.alert.id: view for view in AlertStore(store).views()}
    for alert in (*made, twin):
        (step,) = [step for step in views[alert.id].transitions if step.event == "silenced"]
        reason = "else" if alert is made[1] else "known"
        assert (step.actor, step.reason, bool(views[alert.id].life.silence)) == ("jo", reason, True)
    entries = served.client.get("/api/v1/audit").json()["entries"]
    assert [each["what"] for each in entries] == ["silence"] * 41
    assert {each["target"] for each in entries} == {each.id for each in laid}
    assert served.desk.ranking.acted("jo") == 41
    assert together(served.desk.store, deeds, "silence", ids, "known", 60).done == 41
    assert len(Silences(store).all()) == 41


def test_of_many_silences_those_for_which_there_is_room_are_laid(
    served: Any, three: list[Alert], store: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alerts.actions.MAX_SILENCES", 2)
    body = {"what": "silence", "alerts": [each.id for each in three], "minutes": 60, "reason": "known"}
    told = served.client.post(PATH, json=body).json()
    assert [each["status"] for each in told["outcomes"]] == [200, 200, 409]
    assert "there are 2 silences" in told["outcomes"][2]["detail"]
    assert len(Silences(store).all()) == 2


def test_where_redis_fails_nothing_is_known_of_any_silence(
    served: Any, three: list[Alert], store: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise RedisError("away")

    monkeypatch.setattr(Silences, "add", away)
    body = {"what": "silence", "alerts": [each.id for each in three], "minutes": 60, "reason": "known"}
    told = served.client.post(PATH, json=body).json()
    assert [(each["status"], each["detail"]) for each in told["outcomes"]] == [
        (503, "Redis cannot answer now; nothing is known to be done")
    ] * 3


def test_alerts_that_somebody_else_changes_at_once_are_silenced_all_the_same(
    served: Any, three: list[Alert], store: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, done = AlertStore._read_each, list[Any]()

    def read(alerts: AlertStore, ids: Any) -> Any:
        found = usual(alerts, ids)
        if Silences(store).any() and not done:
            done.append(served.desk.actions.acknowledge(three[1].id, "ann"))
        return found

    monkeypatch.setattr(AlertStore, "_read_each", read)
    body = {"what": "silence", "alerts": [each.id for each in three], "minutes": 60, "reason": "known"}
    assert served.client.post(PATH, json=body).json()["done"] == 3
    assert len(done) == 1
    for alert in three:
        view = served.desk.store.view(alert.id)
        events = ["firing", "acknowledged", "silenced"] if alert is three[1] else ["firing", "silenced"]
        assert [step.event for step in view.transitions] == events


def test_what_is_no_such_wish_is_refused(served: Any, three: list[Alert]) -> None:
    body = {"what": "acknowledge", "alerts": [three[0].id]}
    assert served.reader.post(PATH, json=body).status_code == 403
    many = [f"{number:032x}" for number in range(MOST + 1)]
    for wrong in ({"alerts": []}, {"alerts": ["x"]}, {"alerts": many}, {"what": "reopen"}, {"more": 1}):
        assert served.client.post(PATH, json=body | wrong).status_code == 422, wrong
    assert served.client.post(PATH, json=body | {"alerts": many[1:]}).json()["done"] == 0
    assert set(states(served).values()) == {"firing"}


def test_where_redis_fails_in_the_middle_it_is_said_of_which_nothing_is_known(
    served: Any, three: list[Alert], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = Deeds.change, list[str]()

    def change(self: Deeds, verb: str, alert_id: str, reason: str) -> Any:
        calls.append(alert_id)
        if len(calls) == 2:
            raise RedisError("away")
        return real(self, verb, alert_id, reason)

    monkeypatch.setattr(Deeds, "change", change)
    told = served.client.post(PATH, json={"what": "resolve", "alerts": [each.id for each in three]}).json()
    assert [each["status"] for each in told["outcomes"]] == [200, 503, 503]
    assert "nothing is known" in told["outcomes"][1]["detail"]
    assert "not tried" in told["outcomes"][2]["detail"]
    assert len(calls) == 2


def test_by_form_it_works_without_scripts(
    served: Any, three: list[Alert], put: Callable[..., Alert], browser: httpx.Client
) -> None:
    hostile = put("company=<b>", name="<b>x</b>")
    page = browser.get("/alerts").text
    names = re.findall(r'<input type="checkbox" id="pick-[0-9a-f]{32}" name="(alert-[0-9a-f]{32})"', page)
    assert set(names) == {f"alert-{each.id}" for each in (*three, hostile)}
    assert page.count('form="together"') == 4
    csrf = browser.get("/api/v1/me").json()["csrf"]
    fields = {"csrf": csrf, f"alert-{three[0].id}": three[0].id, f"alert-{hostile.id}": hostile.id}
    done = browser.post("/alerts", data=fields | {"what": "acknowledge", "reason": "both"})
    assert done.status_code == 200
    assert "<h1>2 of 2 done</h1>" in done.text
    assert f'<a href="/alerts/{hostile.id}">&lt;b&gt;x&lt;/b&gt;</a>' in done.text
    again = browser.post("/alerts", data=fields | {"what": "acknowledge"}).text
    assert "<h1>0 of 2 done</h1>" in again
    assert "was acknowledged by jo" in again
    assert "silenced until" in browser.post("/alerts", data=fields | {"what": "silence", "minutes": "60"}).text
    for wrong in ({"what": "reopen"}, {"what": "silence", "minutes": "0"}, {}):
        assert browser.post("/alerts", data=fields | wrong).status_code == 422
    assert browser.post("/alerts", data={"csrf": csrf, "what": "resolve", "alert-x": "1"}).status_code == 422
    many = {f"alert-{number:032x}": "1" for number in range(300)}
    assert "Choose alerts, 100 at most." in browser.post("/alerts", data=many | {"csrf": csrf, "what": "resolve"}).text
    assert browser.post("/alerts", data={**fields, "csrf": "", "what": "resolve"}).status_code == 403
    browser.post("/alerts", data=fields | {"what": "resolve"})
    left = browser.get("/alerts?state=all").text
    assert f"pick-{three[1].id}" in left
    assert f"pick-{three[0].id}" not in left  # it is resolved


def test_who_may_only_read_sees_no_boxes(served: Any, three: list[Alert]) -> None:
    page = served.reader.get("/alerts").text
    assert "C0" in page
    assert "checkbox" not in page
    assert "together" not in page
