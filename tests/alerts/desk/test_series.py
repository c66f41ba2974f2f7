"""The page of one series, and the API under it: how it stands, its chart, its alerts and silences."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import msgspec
import pytest
from axe_playwright_python.sync_playwright import Axe
from markupsafe import escape
from playwright.sync_api import Page, expect
from redis import Redis

from alerts.alert import Alert
from alerts.course import Bin, encode_bin
from alerts.now import Row, Table
from alerts.series import label

HOSTILE = "company=A&B/C? \"<script>alert(1)</script>'%2e%2e/+#{{7*7}}\u202e<img src=x onerror=alert(1)>"
LONG = "company=" + "债" * 128 + ";topic=" + "务" * 128
NAMES = ("market", "topic=Liquidity", "company=SIVB", "company=JPM;topic=M&A / IPO", HOSTILE, LONG)


def address(key: str, under: str = "") -> str:
    return f"{under}/series?{urlencode({'key': key})}"


@pytest.fixture
def shown(store: Redis) -> Callable[..., None]:
    """Writes a table of series as alerting does: 24 hours, the last with more negatives than its band."""

    def make(*series: str, **fields: Any) -> None:
        plain: dict[str, Any] = {
            "kind": "company", "state": "pending", "window_min": 60, "observed": 19, "others": 1, "expected": 3.1,
            "low": 0, "high": 7, "z": 5.0, "strength": 5.0, "share": 0.15, "items_min": 0.3, "usual_min": 0.3,
            "bin_min": 60, "negatives": [2] * 23 + [19], "totals": [12] * 23 + [20], "due": [2.5] * 24,
            "lows": [0] * 24, "highs": [6] * 24,
        }  # fmt: skip
        rows = [Row(series=each, name=each.partition("=")[2] or "the market", **{**plain, **fields}) for each in series]
        minute = int(time.time() // 60)
        made = Table(minute=minute, written_at=time.time(), series=4_000, warming_up="", missing=0, rows=rows)
        store.set("nq:{alerts}:now", msgspec.msgpack.encode(made))
        stir(store)

    return make


def stir(store: Redis) -> None:
    """Have the desk read anew what it holds for all who look, as after a minute."""
    store.incr("nq:{alerts}:now:minute")


def test_a_calm_series_says_what_is_seen_and_draws_it_against_what_was_expected(
    served: Any, shown: Callable[..., None]
) -> None:
    shown("company=SIVB", "company=JPM")
    found = served.reader.get(address("company=SIVB", "/api/v1")).json()
    assert (found["name"], found["kind"], found["state"]) == ("SIVB", "company", "pending")
    assert found["summary"] == "SIVB: 19 negative of 20 items in 60 min; 3.1 expected (95 % 0-7)"
    assert [row["series"] for row in found["now"]["rows"]] == ["company=SIVB"]
    course = found["course"]
    assert (len(course), found["course_of"], found["alerts"], found["silences"]) == (24, "", [], [])
    assert course[-1] == {
        "start": found["now"]["minute"] // 60 * 60, "span_min": 60, "negatives": 19, "others": 1, "expected": 2.5,
        "low": 0, "high": 6,
    }  # fmt: skip
    page = served.reader.get(address("company=SIVB")).text
    assert found["summary"] in page
    assert page.count('<rect class="neg over"') == 1
    assert 'class="moment' not in page
    assert "19 of 20 negative, expected 0 to 7" in page  # as on Now
    assert "Silence …" not in page  # who may only read lays none
    assert "JPM" not in page


def test_a_series_that_fires_shows_its_alerts_course_and_price(
    serve: Callable[..., Any], shown: Callable[..., None], put: Callable[..., Alert], store: Redis, tmp_path: Path
) -> None:
    served = serve(prices=tmp_path)
    alert = put()
    shown("company=SIVB", state="firing")
    path = address("company=SIVB", "/api/v1")
    assert served.client.get(path).json()["course_of"] == ""  # its first minute is not written yet
    start = int(alert.started_at.timestamp() // 3600 - 5) * 60
    for hour in range(7):
        each = Bin(start + 60 * hour, 60, 4 * hour, 9, 2.5, 0, 6)
        store.hset(f"nq:{{alerts}}:course:{alert.id}", f"60:{each.start}", encode_bin(each))
    stir(store)
    times = (datetime.fromtimestamp((start + 60 * hour) * 60, UTC) for hour in range(4))
    rows = "\n".join(f"{at.isoformat()},{n}" for n, at in enumerate(times))
    (tmp_path / "SIVB.csv").write_text(f"timestamp,price\n{rows}", "utf-8")
    found = served.client.get(path).json()
    assert (found["course_of"], len(found["course"]), found["state"]) == (alert.id, 7, "firing")
    pages = [served.client.get(each).text for each in (address("company=SIVB"), f"/alerts/{alert.id}")]
    drawn = [re.search(r'<svg class="course".*?</svg>', page, re.DOTALL) for page in pages]
    assert drawn[0]
    assert drawn[1]
    assert drawn[0][0] == drawn[1][0]
    assert 'class="moment fired"' in drawn[0][0]
    assert '<polyline class="price"' in drawn[0][0]
    assert f'href="{address("company=SIVB")}"' in pages[1]


def test_its_alerts_stand_with_what_was_said_of_them_and_the_silences_that_concern_it(
    served: Any, put: Callable[..., Alert], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, alert, _, part = put(minutes_ago=90), put(), put("company=JPM"), put("company=SIVB;topic=Earnings")
    served.client.post(f"/api/v1/alerts/{old.id}/resolve", json={})
    served.client.post(f"/api/v1/alerts/{old.id}/verdict", json={"verdict": "false_alarm"})
    served.client.post(f"/api/v1/alerts/{old.id}/correction", json={"story": 0, "about": "sentiment"})

    def silence(matchers: str, **fields: Any) -> str:
        body = {"matchers": matchers, "minutes": 60, "reason": matchers, **fields}
        return str(served.client.post("/api/v1/silences", json=body).json()["id"])

    over = [
        silence('series="company=SIVB"'),
        silence("company=~S.*, severity=warning"),
        silence("kind=company, topic!=Earnings"),
        silence("name=SIVB", starts_at=(datetime.now(UTC) + timedelta(days=1)).isoformat()),
    ]
    ended = silence("company=SIVB, state=firing")
    served.client.delete(f"/api/v1/silences/{ended}")
    for others in ("company=JPM", "topic=Earnings", "kind=theme"):
        silence(others)
    found = served.client.get(address("company=SIVB", "/api/v1")).json()
    assert [each["id"] for each in found["alerts"]] == [alert.id, old.id]
    assert [each["state"] for each in found["alerts"]] == ["firing", "resolved"]
    assert [(word["alert"], word["value"]) for word in found["said"]] == [(old.id, "false_alarm")]
    assert {each["id"] for each in found["silences"]} == set(over)
    assert (found["state"], found["now"]["rows"], found["summary"]) == ("firing", [], "")
    page = served.client.get(address("company=SIVB")).text
    assert all(f'href="/alerts/{each.id}" data-row' in page for each in (old, alert))
    assert part.id not in page
    assert "jo: false alarm" in page
    assert page.count("End it</button>") == 4
    assert "End it</button>" not in served.reader.get(address("company=SIVB")).text
    monkeypatch.setattr("alerts.desk.series._ALERTS", 1)
    stir(served.redis)
    assert served.client.get(address("company=SIVB", "/api/v1")).json()["more"] == 1
    assert "1 more before these" in served.client.get(address("company=SIVB")).text


@pytest.mark.parametrize("key", NAMES)
def test_every_name_leads_from_now_to_its_page_and_stays_text(
    served: Any, shown: Callable[..., None], put: Callable[..., Alert], key: str
) -> None:
    shown(key)
    alert = put(key)
    links = [
        re.search(r'href="(/series\?[^"]+)"', served.client.get(page).text) for page in ("/", f"/alerts/{alert.id}")
    ]
    assert {link and link[1] for link in links} == {address(key)}
    assert served.client.get(address(key, "/api/v1")).json()["series"] == key
    with httpx.Client(base_url=served.url, trust_env=False) as browser:
        answer = browser.get(address(key))
        assert answer.status_code == 303
        answer = browser.post("/signin", data={"token": served.token, "next": address(key)})
        assert answer.headers["location"] == address(key)
        answer = browser.post("/theme", data={"theme": "dark", "next": address(key)})
        assert answer.headers["location"] == address(key)
        page = browser.get(address(key))
        assert page.status_code == 200
        assert 'data-theme="dark"' in page.text
        assert "<script>alert" not in page.text
        assert "<img" not in page.text
        name = label(key)
        for place in (
            "<title>(.*) · ",
            "<h1[^>]*>(.*)</h1>",
            '<p class="lead">(.*): 19 negative',
            "Silence (.*)</button>",
        ):
            shows = re.search(place, page.text)
            assert shows, place
            assert html.unescape(shows[1]) in (name, name[0].upper() + name[1:])
        assert f'aria-label="{escape(name)}: negative items in bins' in page.text
        values = dict(re.findall(r'name="(csrf|matchers)" value="([^"]*)"', page.text))
        values = {name: html.unescape(value) for name, value in values.items()}
        done = browser.post("/silences", data={**values, "minutes": "60", "reason": "known"})
        assert done.status_code == 303
    (silence,) = served.client.get(address(key, "/api/v1")).json()["silences"]
    assert silence["matchers"] == [{"name": "series", "op": "=", "value": key}]
    assert served.client.get(f"/api/v1/alerts/{alert.id}").json()["life"]["silence"] == silence["id"]


def test_an_alert_that_began_on_a_series_and_moved_is_listed_on_both(
    served: Any, shown: Callable[..., None], put: Callable[..., Alert]
) -> None:
    now = datetime.now(UTC)
    seen = []
    for n, broad in enumerate(("topic=Liquidity", "theme=Bank run")):
        alert = put("company=SIVB", minutes_ago=20 - n, began_on=broad, moved_at=now)
        seen.insert(0, alert.id)
        found = served.client.get(address(broad, "/api/v1")).json()
        assert [(each["id"], each["series"]) for each in found["alerts"]] == [(alert.id, "company=SIVB")]
        assert (found["state"], found["course_of"]) == (None, "")  # it does not fire here
        page = served.client.get(address(broad)).text
        assert f'moved to <a href="{html.escape(address("company=SIVB"))}">SIVB</a>' in " ".join(page.split())
        found = served.client.get(address("company=SIVB", "/api/v1")).json()
        assert [each["id"] for each in found["alerts"]] == seen
        assert "moved to" not in served.client.get(address("company=SIVB")).text


def test_a_table_that_cannot_be_read_takes_no_alerts_away(served: Any, put: Callable[..., Alert], store: Redis) -> None:
    alert = put()
    store.set("nq:{alerts}:now", b"\xc1rubbish")
    page = served.client.get(address("company=SIVB"))
    assert page.status_code == 200
    assert "How it stands cannot be read" in page.text
    assert alert.id in page.text
    assert served.client.get(address("company=SIVB", "/api/v1")).status_code == 503


def test_a_company_too_long_for_a_file_has_no_price(
    serve: Callable[..., Any], shown: Callable[..., None], tmp_path: Path
) -> None:
    served = serve(prices=tmp_path)
    shown("company=" + "债" * 128)
    assert served.client.get(address("company=" + "债" * 128)).status_code == 200


def test_what_no_matcher_may_name_is_shown_and_cannot_be_silenced(
    served: Any, shown: Callable[..., None], put: Callable[..., Alert]
) -> None:
    alert = put("company=A\x85B")
    assert "Silence …" not in served.client.get(f"/alerts/{alert.id}").text
    body = {"minutes": 60, "reason": "known"}
    answer = served.client.post(f"/api/v1/alerts/{alert.id}/silence", json=body)
    assert (answer.status_code, "no silence may name" in answer.json()["detail"]) == (422, True)
    shown("company=A\x85B")
    page = served.client.get(address("company=A\x85B"))
    assert page.status_code == 200
    assert "Silence …" not in page.text


def test_unknown_series_and_rubbish_are_told_apart(served: Any, shown: Callable[..., None]) -> None:
    def unknown(key: str, why: str) -> None:
        answer = served.client.get(address(key, "/api/v1"))
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
        assert answer.json()["detail"] == f"{why}, and no alert of the last 90 days is about it."
        page = served.client.get(address(key))  # which may be known when it is renewed
        assert page.status_code == 200
        assert "None in the last 90 days." in page.text

    def asked(query: str) -> int:
        answers = [served.client.get(f"{under}/series{query}") for under in ("/api/v1", "")]
        assert answers[0].headers["content-type"] == "application/problem+json"
        assert answers[0].status_code == answers[1].status_code
        assert answers[0].json()["detail"] or not query
        return int(answers[0].status_code)

    for why in ("How series stand is not known", "Now does not show that series"):
        for key in ("company=NOPE", "theme=No such", "company=\x00\n"):
            unknown(key, why)
        shown("company=SIVB")
    assert "Now does not show it" in served.client.get(address("company=NOPE")).text
    for rubbish in ("", "?key=", "?key=SIVB", "?key=firm%3DSIVB", "?key=company%3D", "?key=%FF"):
        assert asked(rubbish) == 422, rubbish
    assert asked("?key=company%3D" + "x" * 300) == 422
    assert "'firm=SIVB' is no series" in served.client.get("/api/v1/series?key=firm%3DSIVB").json()["detail"]
    with httpx.Client(base_url=served.url, trust_env=False) as stranger:
        assert stranger.get(address("company=SIVB", "/api/v1")).status_code == 401


def test_a_theme_and_a_row_of_a_version_before_have_no_chart(
    served: Any, shown: Callable[..., None], put: Callable[..., Alert]
) -> None:
    put("theme=Bank run")
    page = served.client.get(address("theme=Bank run")).text
    assert "A theme has no counts of its own" in page
    assert "Now does not show it" not in page
    put()
    assert "alerting has judged no minute of late" in served.client.get(address("company=SIVB")).text
    shown("company=JPM", due=[], lows=[], highs=[])
    assert "Now does not show it" in served.client.get(address("company=SIVB")).text
    assert "No chart" in served.client.get(address("company=JPM")).text
    assert served.client.get(address("company=JPM", "/api/v1")).json()["course"] == []


def test_an_analyst_goes_from_now_to_a_series_silences_it_and_sees_what_changes(
    sign_in: Callable[..., Page], served: Any, shown: Callable[..., None], put: Callable[..., Alert]
) -> None:
    shown("company=SIVB", "company=JPM")
    page = sign_in()
    page.goto(served.url)
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="SIVB", exact=True)).to_be_visible()
    expect(page.locator("#link")).to_have_text("live")
    expect(page.locator("#alerts")).to_contain_text("None in the last 90 days")
    page.get_by_text("Silence …").click()
    page.get_by_label("Why").fill("known")
    page.get_by_role("button", name="Silence SIVB").click()
    expect(page.locator("#toasts")).to_contain_text("Silenced series=company=SIVB until")
    expect(page.locator("#silences")).to_contain_text("jo: known")
    page.get_by_role("button", name="End it").click()
    expect(page.locator("#silences")).to_contain_text("None holds or is to come")

    alert = put()
    expect(page.locator("#alerts")).to_contain_text("firing")
    expect(page.locator("#status").get_by_role("link", name="the alert on SIVB")).to_be_visible()
    shown("company=SIVB", state="firing", observed=25)
    expect(page.locator(".lead")).to_contain_text("25 negative of 26 items")
    page.locator("#alerts [data-row]").click()
    expect(page).to_have_url(f"{served.url}/alerts/{alert.id}")
    page.get_by_role("link", name="The series").click()
    expect(page).to_have_url(re.compile(r"/series\?key=company%3DSIVB$"))


def test_a_series_that_now_shows_no_more_keeps_its_page_and_what_is_typed_and_comes_back(
    sign_in: Callable[..., Page], served: Any, shown: Callable[..., None]
) -> None:
    shown("company=SIVB", "company=JPM")
    page = sign_in()
    page.goto(served.url + address("company=JPM"))
    expect(page.locator("#link")).to_have_text("live")
    page.get_by_text("Silence …").click()
    page.get_by_label("Why").fill("known")
    shown("company=SIVB")
    expect(page.locator("#status")).to_contain_text("Now does not show it")
    expect(page.get_by_label("Why")).to_have_value("known")
    shown("company=SIVB", "company=JPM")
    expect(page.locator(".lead")).to_contain_text("19 negative of 20 items")
    expect(page.get_by_label("Why")).to_have_value("known")


def test_the_table_of_now_stands_whole_with_its_latest_bins(
    sign_in: Callable[..., Page], served: Any, shown: Callable[..., None]
) -> None:
    shown("company=SIVB;topic=Company / Product News", observed=106, others=300, items_min=0.01, usual_min=0.01)
    page = sign_in(1000, "light")
    page.goto(served.url)
    page.locator("svg.spark").wait_for()
    assert page.evaluate("(table => table.scrollWidth <= table.clientWidth)(document.querySelector('.scroll'))")


def test_keys_walk_the_rows_of_now_from_any_link_in_them_and_open_the_alert_first(
    sign_in: Callable[..., Page], served: Any, shown: Callable[..., None], put: Callable[..., Alert]
) -> None:
    alert = put("company=B")
    shown("company=A", "company=B", "company=C")
    page = sign_in()
    page.goto(served.url)
    page.get_by_role("link", name="series B").focus()
    for key, name in (("j", "C"), ("k", "B"), ("k", "A"), ("j", "B")):
        page.keyboard.press(key)
        expect(page.get_by_role("link", name=name, exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{served.url}/alerts/{alert.id}")
    page.goto(served.url)
    page.get_by_role("link", name="series B").click()
    expect(page).to_have_url(served.url + address("company=B"))
    first, _, last = (
        put("topic=Liquidity", minutes_ago=10),
        put("company=SIVB", minutes_ago=20, began_on="topic=Liquidity", moved_at=datetime.now(UTC)),
        put("topic=Liquidity", minutes_ago=30),
    )
    page.goto(served.url + address("topic=Liquidity"))
    for key, reached in (("j", last), ("k", first)):
        page.get_by_role("link", name="SIVB", exact=True).focus()  # in another cell of its row than the row's link
        page.keyboard.press(key)
        expect(page.locator(f'#alerts a[href="/alerts/{reached.id}"]')).to_be_focused()


@pytest.mark.parametrize(("width", "scheme"), [(1000, "light"), (1000, "dark"), (390, "light"), (390, "dark")])
def test_the_page_of_a_series_can_be_used_by_everybody(
    sign_in: Callable[..., Page],
    served: Any,
    shown: Callable[..., None],
    put: Callable[..., Alert],
    tmp_path: Path,
    width: int,
    scheme: str,
) -> None:
    keys = ("company=SIVB", "company=" + "W" * 128)
    shown(*keys)
    page = sign_in(width, scheme)
    for number, key in enumerate(keys):
        put(key)
        body = {"matchers": f'series="{key}"', "minutes": 60, "reason": "known"}
        served.client.post("/api/v1/silences", json=body)
        page.goto(served.url + address(key))
        for opened in (False, True):
            if opened:
                page.get_by_text("Silence …").click()
            page.screenshot(path=tmp_path / f"series-{number}-{opened}-{scheme}-{width}.png", full_page=True)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (key, opened)
            found = Axe().run(page).response["violations"]
            serious = [(v["id"], v["nodes"][0]["html"][:200]) for v in found if v["impact"] in ("serious", "critical")]
            assert not serious, (key, opened)
