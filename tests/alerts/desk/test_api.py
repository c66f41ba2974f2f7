"""The JSON API and the pages, on a real server."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import pytest
from redis import Redis

from alerts import listing
from alerts.alert import Alert
from alerts.course import Bin, encode_bin
from alerts.delivery import delivery_key, delivery_of, due_key
from alerts.desk import live
from alerts.notification import Notification
from alerts.now import Row, Table
from alerts.outbox import Outbox
from alerts.store import LOG

HOSTILE = "<script>alert(1)</script> \u202e'\"><img src=x onerror=alert(1)> {{7*7}} @channel"


def _row(series: str, **fields: Any) -> Row:
    plain: dict[str, Any] = {
        "series": series, "name": series.partition("=")[2], "kind": series.partition("=")[0], "state": "normal",
        "window_min": 60, "observed": 3, "others": 17, "expected": 3.1, "low": 0, "high": 7, "z": 0.1,
        "strength": 0.1, "share": 0.15, "items_min": 0.3, "usual_min": 0.3, "bin_min": 60, "negatives": [1, 2],
        "totals": [3, 4],
    }  # fmt: skip
    return Row(**{**plain, **fields})


@pytest.fixture
def table(store: Redis) -> None:
    rows = [
        _row("company=SIVB", state="firing", strength=7.0, observed=19, others=1),
        _row("topic=Earnings", strength=2.0, items_min=9.0),
        _row("company=JPM"),
        _row(f"company={'A' * 100}", name=HOSTILE),
    ]
    minute = int(datetime.now(UTC).timestamp() // 60)
    made = Table(minute=minute, written_at=minute * 60.0, series=4_000, warming_up="", missing=0, rows=rows)
    store.set("nq:{alerts}:now", msgspec.msgpack.encode(made))


def test_now_is_filtered_and_ordered_and_says_what_is_open(served: Any, table: None, put: Callable[..., Alert]) -> None:
    def names(query: str) -> list[str]:
        found = served.client.get(f"/api/v1/now?{query}").json()
        return [row["series"].partition("=")[2][:8] for row in found["rows"]]

    assert names("limit=2") == ["SIVB", "Earnings"]
    assert names("kind=topic") == ["Earnings"]
    assert names("q=jp") == ["JPM"]
    assert names("state=firing") == ["SIVB"]
    assert names("order=volume&limit=1") == ["Earnings"]
    assert served.client.get("/api/v1/now").json()["series"] == 4_000
    assert "1 alert open</a> (1 theme)" not in served.client.get("/").text
    put("theme=bank run")
    assert "1 alert open</a> (1 theme)" in served.client.get("/?q=none").text
    page = served.client.get("/?q=sivb").text
    assert "SIVB" in page
    assert "JPM" not in page
    assert "95 %" in page  # 19 of 20 are negative
    assert "19 of 20 negative, expected 0 to 7" in page


def test_without_a_table_the_page_says_why(served: Any) -> None:
    assert served.client.get("/api/v1/now").json()["minute"] is None
    assert "no minute yet" in served.client.get("/").text


def test_what_is_done_is_found_in_the_api_in_redis_and_in_the_audit_log(
    served: Any, put: Callable[..., Alert], store: Redis
) -> None:
    alert = put()
    path = f"/api/v1/alerts/{alert.id}"
    done = served.client.post(f"{path}/acknowledge", json={"reason": "mine"}).json()
    assert (done["event"], done["actor"], done["reason"]) == ("acknowledged", "jo", "mine")
    again = served.client.post(f"{path}/acknowledge", json={})
    assert again.status_code == 409
    assert "jo" in again.json()["detail"]
    silence = served.client.post(f"{path}/silence", json={"minutes": 60, "reason": "known"}).json()
    assert silence["over"] == 1
    assert served.client.get("/api/v1/alerts?state=silenced").json()["alerts"][0]["silenced"] is True
    assert served.client.delete(f"/api/v1/silences/{silence['id']}").status_code == 204
    assert served.client.delete(f"/api/v1/silences/{silence['id']}").status_code == 409
    assert served.client.post(f"{path}/unacknowledge", json={}).json()["state"] == "firing"
    assert served.client.post(f"{path}/resolve", json={"reason": "over"}).json()["state"] == "resolved"
    assert served.client.get("/api/v1/alerts").json()["alerts"] == []
    assert [a["id"] for a in served.client.get("/api/v1/alerts?state=resolved").json()["alerts"]] == [alert.id]
    events = [json.loads(fields[b"line"])["event"] for _, fields in store.xrange(LOG)]
    assert events == ["firing", "acknowledged", "silenced", "unsilenced", "unacknowledged", "resolved"]
    audit = [(e["who"], e["what"]) for e in served.client.get("/api/v1/audit").json()["entries"]]
    expected = ["acknowledge", "silence", "expire_silence", "unacknowledge", "resolve"]
    assert audit == [("jo", what) for what in reversed(expected)]
    assert all(word in served.client.get("/audit").text for word in ("acknowledge", "mine", "127.0.0.1", ">SIVB</a>"))
    assert ">Older</a>" in served.client.get("/audit?limit=2").text


def test_verdicts_and_corrections_are_kept_shown_and_taken_back(
    served: Any, put: Callable[..., Alert], store: Redis
) -> None:
    alert = put()
    path = f"/api/v1/alerts/{alert.id}"
    assert served.client.post(f"{path}/verdict", json={"verdict": "false_alarm"}).json()["value"] == "false_alarm"
    body = {"story": 1, "about": "sentiment", "label": "neutral"}
    said = served.client.post(f"{path}/correction", json=body).json()
    assert (said["title"], said["given"], said["value"]) == (alert.stories[1].title, "negative", "neutral")
    assert served.client.post(f"{path}/correction", json=body | {"label": "rubbish"}).status_code == 422
    assert served.client.post(f"{path}/correction", json=body | {"label": "negative"}).status_code == 422  # as it says
    assert served.client.post(f"{path}/correction", json=body | {"story": 50}).status_code == 404
    assert len(served.client.get(path).json()["said"]) == 2
    page = served.client.get(f"/alerts/{alert.id}").text
    assert "sentiment: neutral" in page
    assert 'aria-pressed="true">False alarm' in page
    assert "<option>Earnings" in page
    assert "<option>Liquidity" not in page  # is what the model says
    assert served.client.post(f"{path}/verdict", json={"verdict": None}).json()["taken_back"] is True
    assert [word["about"] for word in served.client.get(path).json()["said"]] == ["sentiment"]
    assert store.xlen("nq:{desk}:feedback") == 3


def test_two_analysts_correct_one_headline_each_for_themselves(served: Any, put: Callable[..., Alert]) -> None:
    alert = put()
    path, button = f"/api/v1/alerts/{alert.id}", '<summary class="small">Wrong sentiment</summary>'
    body = {"story": 0, "about": "sentiment"}
    served.client.post(f"{path}/correction", json=body | {"label": "neutral"})
    with served.as_(served.desk.tokens.add("bob", "analyst")) as bob:
        page = bob.get(f"/alerts/{alert.id}").text
        assert button in page
        assert "jo: sentiment neutral" in page
        assert "sentiment: neutral ✕" not in page
        bob.post(f"{path}/correction", json=body | {"label": "positive"})
        said = [(word["by"], word["value"]) for word in bob.get(path).json()["said"]]
        assert said == [("jo", "neutral"), ("bob", "positive")]
        page = bob.get(f"/alerts/{alert.id}").text
        assert "sentiment: positive ✕" in page
        assert "jo: sentiment neutral" in page
        assert bob.post(f"{path}/correction", json=body | {"taken_back": True}).json()["taken_back"] is True
        assert [word["by"] for word in bob.get(path).json()["said"]] == ["jo"]


def test_an_alert_page_shows_the_course_and_marks_words(served: Any, put: Callable[..., Alert], store: Redis) -> None:
    alert = put()
    start = int(alert.started_at.timestamp() // 60 // 60 - 5) * 60
    for hour in range(6):
        each = Bin(start=start + 60 * hour, span_min=60, negatives=hour * 4, others=9, expected=2.5, low=0, high=6)
        store.hset(f"nq:{{alerts}}:course:{alert.id}", f"60:{each.start}", encode_bin(each))
    page = served.client.get(f"/alerts/{alert.id}").text
    assert "fired" in page
    assert page.count('<rect class="neg over"') == 4
    assert len(served.client.get(f"/api/v1/alerts/{alert.id}").json()["course"]) == 6


def test_hostile_text_stays_text(served: Any, put: Callable[..., Alert], alert: Alert, table: None) -> None:
    story = msgspec.structs.replace(
        alert.stories[0], title=HOSTILE, publisher=HOSTILE, topic=HOSTILE, source=HOSTILE,
        url="javascript:alert(1)", companies=(HOSTILE,), words=(("<script>", 3.0), ("(", 2.0)),
    )  # fmt: skip
    made = put(name=HOSTILE, summary=HOSTILE, stories=(story,), parent="company=<b>")
    served.client.post(f"/api/v1/alerts/{made.id}/acknowledge", json={"reason": HOSTILE})
    for path in ("/", "/alerts", f"/alerts/{made.id}", "/audit", "/?q=%3Cscript%3E", "/alerts?q=%22%3E%3Cimg%3E"):
        page = served.client.get(path).text
        assert "<script>alert" not in page
        assert "<img" not in page
        assert "javascript:" not in page
        assert " style=" not in page
        assert "49" not in page or "{{7*7}}" in page


def test_rubbish_is_refused_as_a_problem_not_an_error(served: Any, put: Callable[..., Alert]) -> None:
    alert = put()
    client, path = served.client, f"/api/v1/alerts/{alert.id}"
    json_ = {"content-type": "application/json"}
    silence = {"matchers": "company=JPM", "minutes": 5, "reason": "x"}
    answers = [
        client.get("/api/v1/alerts/xyz"),
        client.get(f"/api/v1/alerts/{'0' * 32}"),
        client.get("/api/v1/nowhere"),
        client.get("/api/v1/now?limit=-1"),
        client.get("/api/v1/alerts?state=%00"),
        client.post(f"{path}/acknowledge", content=b"{", headers=json_),
        client.post(f"{path}/acknowledge", content=b'{"reason": "\\ud800"}', headers=json_),
        client.post(f"{path}/acknowledge", content=b"[" * 50_000, headers=json_),
        client.post(f"{path}/acknowledge", content=b"x" * 100_000, headers=json_),
        client.post(f"{path}/acknowledge", json={"reason": "x" * 501}),
        client.post(f"{path}/silence", json={"minutes": 10**30, "reason": "x"}),
        client.post(f"{path}/silence", json={"minutes": 5, "reason": "  "}),
        client.post("/api/v1/silences", json=silence | {"matchers": "(("}),
        client.post("/api/v1/silences", json=silence | {"matchers": 'company=~"("'}),
        client.post("/api/v1/silences", json=silence | {"matchers": 'company=~".*"'}),
        client.post("/api/v1/silences", json=silence | {"starts_at": "9999-12-31T23:59:59-12:00"}),
        client.post("/api/v1/silences", json=silence | {"starts_at": "9999-12-31T23:59:59Z"}),
        client.post("/api/v1/silences", json=silence | {"starts_at": "0001-01-01T00:00:00+12:00"}),
        client.delete("/api/v1/silences/none"),
        client.put("/api/v1/now"),
    ]
    for answer in answers:
        assert 400 <= answer.status_code < 500, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert set(answer.json()) == {"title", "status", "detail"}
    assert client.get("/alerts/xyz").status_code == 404
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert client.post("/signin", content=b"\xff=%ff&" * 99, headers=form).status_code < 500


def test_events_tell_of_transitions_and_of_a_new_table(served: Any, put: Callable[..., Alert], store: Redis) -> None:
    with served.client.stream("GET", "/api/v1/events", timeout=20) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        assert next(lines).startswith("retry")
        store.xadd(LOG, {"x": "y"})  # of another version, or by another hand
        alert = put()
        event = next(line for line in lines if line.startswith("event"))
        data = json.loads(next(lines).removeprefix("data: "))
        assert (event, data["alert"], data["event"]) == ("event: transition", alert.id, "firing")
        store.set("nq:{alerts}:now:minute", 77)
        assert next(line for line in lines if line.startswith("event")) == "event: now"
        assert next(lines) == 'data: {"minute":77}'
        served.client.post(f"/api/v1/alerts/{alert.id}/verdict", json={"verdict": "useful"})
        assert next(line for line in lines if line.startswith("event: deed"))
        assert json.loads(next(lines).removeprefix("data: ")) == {"what": "feedback", "target": alert.id}
        body = {"matchers": "company=NONE", "minutes": 5, "reason": "x"}  # which no alert is
        silence = served.client.post("/api/v1/silences", json=body).json()
        assert next(line for line in lines if line.startswith("event: deed"))
        assert json.loads(next(lines).removeprefix("data: ")) == {"what": "silence", "target": silence["id"]}
        assert silence["over"] == 0


@pytest.mark.parametrize("way", ["token", "session"])
def test_events_end_with_the_token_or_session_and_say_when_nothing_can_be_read(
    served: Any, store: Redis, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(live, "_HEARTBEAT_S", 0.1)
    while served.desk.hub.health()[1]:  # it has not begun to read
        time.sleep(0.01)
    client = served.client
    if way == "session":
        client = httpx.Client(base_url=served.url, trust_env=False)
        client.post("/signin", data={"token": served.token})
    with client.stream("GET", "/api/v1/events", timeout=20) as answer:
        lines = answer.iter_lines()
        assert next(line for line in lines if line.startswith("event")) == "event: beat"
        assert next(lines) == 'data: {"since":null}'
        since = None
        while since is None:
            served.desk.hub._error = "Redis: away"  # until the log has been read again
            since = json.loads(next(line for line in lines if "since" in line).removeprefix("data: "))["since"]
        assert since < datetime.now(UTC).isoformat()
        if way == "token":
            served.desk.tokens.revoke("jo")
        else:
            client.post("/signout", data={"csrf": client.get("/api/v1/me").json()["csrf"]})
        served.desk.hub._error = ""
        for _ in lines:  # to the end
            pass
    if way == "session":
        client.close()


def test_a_long_list_of_alerts_is_read_to_its_end(served: Any, put: Callable[..., Alert]) -> None:
    ids = [put(f"company=C{number}", minutes_ago=number).id for number in range(5)]
    first = served.client.get("/api/v1/alerts?limit=2").json()
    assert ([each["id"] for each in first["alerts"]], first["more"]) == (ids[:2], 3)
    rest = served.client.get(f"/api/v1/alerts?after={ids[1]}").json()
    assert ([each["id"] for each in rest["alerts"]], rest["more"]) == (ids[2:], 0)
    assert served.client.get(f"/api/v1/alerts?after={'0' * 32}").status_code == 404
    refused = served.client.get(f"/api/v1/alerts?order=mine&after={ids[1]}")
    assert refused.status_code == 422
    assert "order=newest" in refused.json()["detail"]
    page = served.client.get("/alerts?limit=2").text
    assert "Show more (3)" in page
    assert "C2" not in page
    assert 'limit=8">Show more' in page
    assert "C4" in served.client.get("/alerts?limit=8&order=mine").text


@pytest.mark.parametrize("state", ["all", "resolved"])
def test_what_is_searched_for_is_found_behind_many_others(
    served: Any, put: Callable[..., Alert], monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    monkeypatch.setattr(listing, "_CHUNK", 4)
    old = [put("company=OLDCO", minutes_ago=100 + number) for number in range(3)]
    others = [put(f"company=C{number}", minutes_ago=number) for number in range(6)]
    for each in old + others:
        served.client.post(f"/api/v1/alerts/{each.id}/resolve", json={})
    found = served.client.get(f"/api/v1/alerts?state={state}&q=OLDCO&limit=2").json()
    assert ([each["id"] for each in found["alerts"]], found["more"]) == ([each.id for each in old[:2]], 1)
    found = served.client.get(f"/api/v1/alerts?state={state}&limit=4").json()
    assert (len(found["alerts"]), found["more"]) == (4, 5)


def test_more_viewers_than_allowed_are_refused(serve: Callable[..., Any]) -> None:
    served = serve(viewers=1)
    with served.client.stream("GET", "/api/v1/events", timeout=20) as first:
        lines = first.iter_lines()
        assert next(lines).startswith("retry")
        assert served.reader.get("/api/v1/events").status_code == 503


def test_one_person_cannot_take_the_pages_of_all_others(serve: Callable[..., Any]) -> None:
    served = serve(viewers_each=2)
    with contextlib.ExitStack() as stack:
        streams = [served.client.stream("GET", "/api/v1/events", timeout=20) for _ in range(2)]
        lines = [stack.enter_context(stream).iter_lines() for stream in streams]
        assert [next(each) for each in lines] == ["retry: 2000"] * 2
        refused = served.client.get("/api/v1/events")
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "60"
        assert refused.json()["detail"] == "as many of your pages are kept up to date as may be (2): close some of them"
        with served.reader.stream("GET", "/api/v1/events", timeout=20) as other:
            assert other.status_code == 200
    while served.desk.hub._viewers:  # their places are free again once the server has seen that they left
        time.sleep(0.01)
    with served.client.stream("GET", "/api/v1/events", timeout=20) as again:
        assert again.status_code == 200


def test_a_redis_that_fails_is_said_and_survived(served: Any, put: Callable[..., Alert], store: Redis) -> None:
    put()
    store.set("nq:{alerts}:open2", 1)
    store.delete("nq:{alerts}:open")
    store.set("nq:{alerts}:open", "not a set")
    answer = served.client.get("/api/v1/alerts")
    assert (answer.status_code, answer.json()["title"]) == (503, "Service Unavailable")
    store.delete("nq:{alerts}:open")
    assert served.client.get("/api/v1/alerts").status_code == 200


def test_the_openapi_description_names_every_type_it_uses(served: Any) -> None:
    described = served.client.get("/api/openapi.json").json()
    raw = json.dumps(described)
    names = {part.partition('"')[0] for part in raw.split("#/components/schemas/")[1:]}
    assert names <= set(described["components"]["schemas"])
    assert all(path.startswith("/api/v1/") for path in described["paths"])


def test_deliveries_stand_with_their_alert_and_receivers_in_trouble_on_the_health_page(
    served: Any, put: Callable[..., Alert], store: Redis
) -> None:
    alert = put()
    firing = Notification(id="msg_1", receiver="risk-desk", event="alert.firing", alerts=(alert,), at=alert.updated_at)
    delivery = delivery_of(firing, 1_700_000_000.0)
    outbox = Outbox(store)
    store.zadd(due_key("risk-desk"), {delivery_key(delivery.id): 0.0})
    store.set(delivery_key(delivery.id), msgspec.json.encode(delivery))
    tried = msgspec.structs.replace(delivery, attempts=2, reason="status 500")
    outbox.retry(tried, 1_700_000_100.0, 1_700_000_050.0)
    (told,) = served.client.get(f"/api/v1/alerts/{alert.id}").json()["told"]
    assert (told["receiver"], told["status"], told["attempts"]) == ("risk-desk", "failed", 2)
    assert "status 500" in served.client.get(f"/alerts/{alert.id}").text
    line = outbox.told(alert.id)[0]
    for number in range(1_200):
        later = msgspec.structs.replace(line, id=f"msg_{number}", reason=f"try {number}", at_s=line.at_s + number)
        store.hset(f"nq:{{alerts}}:told:{alert.id}", later.id, msgspec.json.encode(later))
    found = served.client.get(f"/api/v1/alerts/{alert.id}").json()
    assert ([each["reason"] for each in found["told"]][-2:], len(found["told"])) == (["try 1198", "try 1199"], 100)
    assert found["told_before"] == 1_100
    page = served.client.get(f"/alerts/{alert.id}").text
    assert "1,100 more before these" in page
    assert "try 1100" in page
    assert "try 1099" not in page
    outbox.disable("risk-desk", "410 Gone")
    assert served.client.get("/api/v1/health").json()["receivers"] == {"risk-desk": "disabled: 410 Gone"}
    assert "410 Gone" in served.client.get("/health").text
