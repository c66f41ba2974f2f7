"""An analyst at work, in a real browser: what they see without reloading, what they do, and whether all can use it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from redis import Redis, RedisError

from alerts.alert import Alert
from alerts.desk.live import Message
from alerts.store import LOG

_PAGES = ("/", "/alerts", "/stream", "/silences", "/health", "/audit")


def test_an_alert_appears_by_itself_and_is_worked_through(
    sign_in: Callable[..., Page], served: Any, put: Callable[..., Alert], store: Redis
) -> None:
    page = sign_in()
    expect(page.get_by_text("Nothing is surging")).to_be_visible()
    expect(page.locator("#open-alerts")).to_be_hidden()
    alert = put()
    row = page.locator("[data-row]")
    expect(row).to_contain_text("SIVB")
    expect(page.locator("#open-alerts")).to_have_text("1 open")
    expect(page.get_by_text("SIVB: new alert (critical)")).to_be_visible()
    page.keyboard.press("j")
    expect(row).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="SIVB", exact=True)).to_be_visible()

    page.get_by_role("button", name="Acknowledge").click()
    expect(page.locator("#status")).to_contain_text("jo is on it")
    expect(page.locator("#history")).to_contain_text("acknowledged by jo")
    page.get_by_text("Silence …").click()
    page.get_by_label("Why").first.fill("known problem")
    page.get_by_role("button", name="Silence SIVB").click()
    expect(page.locator("#status")).to_contain_text("known problem (jo)")
    expect(
        page.get_by_text(re.compile(r"Silenced series=company=SIVB until .* UTC; covers 1 open alert now"))
    ).to_be_visible()
    page.get_by_role("button", name="False alarm").click()
    expect(page.get_by_role("button", name="False alarm")).to_have_attribute("aria-pressed", "true")
    page.get_by_text("Wrong sentiment").first.click()
    page.get_by_label("It is").first.select_option("neutral")
    page.get_by_role("button", name="Say so").first.click()
    expect(page.get_by_role("button", name="sentiment: neutral").first).to_be_visible()
    page.get_by_text("Resolve …").click()
    page.locator("form[action$=resolve]").get_by_label("Why").fill("over")
    page.get_by_role("button", name="Resolve: it is over for us").click()
    expect(page.locator("#status")).to_contain_text("resolved")

    events = [json.loads(fields[b"line"])["event"] for _, fields in store.xrange(LOG)]
    assert events == ["firing", "acknowledged", "silenced", "resolved"]
    assert served.client.get(f"/api/v1/alerts/{alert.id}").json()["life"]["state"] == "resolved"
    page.goto(f"{served.url}/audit")
    for what in ("sign in", "acknowledge", "silence", "false_alarm", "neutral", "resolve"):
        expect(page.get_by_role("table")).to_contain_text(what)


def test_who_hears_the_page_or_has_no_mouse_is_told_what_was_done_and_stays_where_they_were(
    sign_in: Callable[..., Page], served: Any, put: Callable[..., Alert]
) -> None:
    alert = put()
    page = sign_in()
    page.goto(f"{served.url}/alerts/{alert.id}")
    told = page.locator("#toasts")
    page.get_by_text("Wrong sentiment").first.click()
    page.get_by_label("It is").first.select_option("neutral")
    page.get_by_role("button", name="Acknowledge").press("Enter")
    expect(told).to_contain_text("Acknowledged")
    expect(page.get_by_role("button", name="Take acknowledgement back")).to_be_focused()
    expect(page.get_by_label("It is").first).to_have_value("neutral")  # what was being said elsewhere stays
    served.client.post(f"/api/v1/alerts/{alert.id}/unacknowledge", json={})
    expect(page.get_by_role("button", name="Acknowledge", exact=True)).to_be_focused()
    page.get_by_role("button", name="Say so").first.press("Enter")
    expect(told).to_contain_text("Said: sentiment is wrong")
    expect(page.get_by_role("button", name="sentiment: neutral").first).to_be_focused()
    page.get_by_text("Resolve …").press("Enter")
    page.locator("form[action$=resolve]").get_by_label("Why").press("Enter")
    expect(told).to_contain_text("Resolved")
    heading = page.get_by_role("heading", name="SIVB", exact=True)
    expect(heading).to_be_focused()  # there is nothing more to resolve
    served.client.post(f"/api/v1/alerts/{alert.id}/verdict", json={"verdict": "useful"})
    expect(page.locator("#history")).to_contain_text("jo said: alert useful")  # what is only said is seen, too
    page.wait_for_timeout(500)
    expect(heading).to_be_focused()


def test_what_went_wrong_stands_at_its_form_and_the_page_is_as_things_are(
    sign_in: Callable[..., Page], served: Any, put: Callable[..., Alert], monkeypatch: pytest.MonkeyPatch
) -> None:
    alert = put()
    page = sign_in().context.new_page()  # whose console may tell of answers that refuse
    page.goto(f"{served.url}/alerts/{alert.id}")
    expect(page.locator("#link")).to_have_text("live")
    acknowledge = page.get_by_role("button", name="Acknowledge", exact=True)
    box = acknowledge.bounding_box()
    page.get_by_text("Resolve …").click()
    form = page.locator("form[action$=resolve]")
    form.get_by_label("Why").fill("over")
    assert acknowledge.bounding_box() == box  # nothing has moved
    served.client.post(f"/api/v1/alerts/{alert.id}/resolve", json={"reason": "from elsewhere"})
    expect(page.locator("#status")).to_contain_text("by jo")
    form.get_by_role("button").click()
    expect(page.get_by_role("alert")).to_contain_text("was resolved by jo")
    expect(page.locator("#actions").get_by_role("alert")).to_be_visible()
    expect(page.get_by_text("Resolve …")).to_have_count(0)
    page.get_by_role("button", name="Put this message away").click()
    expect(page.get_by_role("alert")).to_have_count(0)

    page.goto(f"{served.url}/silences")
    page.get_by_label("Matchers").fill("company=JPM severity=warning")
    page.get_by_label("Why").fill("known")
    page.get_by_role("button", name="Silence", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("matchers are separated by commas")
    page.get_by_label("Matchers").fill("company=JPM, severity=warning")
    page.get_by_role("button", name="Silence", exact=True).click()
    expect(page.locator("#toasts")).to_contain_text("covers 0 open alerts now")
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.get_by_label("Matchers")).to_have_value("")

    menu = page.locator("details.menu")
    for close in (lambda: page.keyboard.press("Escape"), lambda: page.get_by_role("heading", name="Silences").click()):
        menu.locator("summary").click()
        expect(menu.get_by_role("link", name="Audit log")).to_be_visible()
        close()
        expect(menu.get_by_role("link", name="Audit log")).to_be_hidden()

    def away(_: str) -> Any:
        raise RedisError("away")

    monkeypatch.setattr(served.desk.hub, "_look", away)
    expect(page.locator("#link")).to_contain_text("not up to date since", timeout=20_000)
    monkeypatch.undo()
    expect(page.locator("#link")).to_have_text("live", timeout=20_000)
    page.context.clear_cookies()
    page.get_by_role("button", name="End it").click()
    expect(page.get_by_text("Your session has ended; nothing was done. Sign in again.")).to_be_visible()


def test_what_another_analyst_does_is_seen_without_reloading(
    sign_in: Callable[..., Page], served: Any, put: Callable[..., Alert]
) -> None:
    alert = put()
    page = sign_in()
    page.goto(f"{served.url}/alerts/{alert.id}")
    expect(page.locator("#link")).to_have_text("live")
    served.client.post(f"/api/v1/alerts/{alert.id}/acknowledge", json={"reason": "from elsewhere"})
    expect(page.locator("#history")).to_contain_text("from elsewhere")


def test_a_page_renews_no_more_than_it_shows_and_a_steady_trickle_does_not_put_it_off(
    sign_in: Callable[..., Page], served: Any, put: Callable[..., Alert]
) -> None:
    page = sign_in()
    renewed: list[str] = []
    page.on("request", lambda request: renewed.append(request.url) if "x-refresh" in request.headers else None)
    for path in ("/stream", "/audit"):
        page.goto(f"{served.url}{path}")
        expect(page.locator("#link")).to_have_text("live")
        renewed.clear()
        put(f"company={path[1:].upper()}")
        expect(page.locator("#open-alerts")).to_have_text(f"{len(served.desk.store.lives())} open")
        assert {*renewed} == {f"{served.url}/opened"}
    page.goto(f"{served.url}/alerts")
    expect(page.locator("#link")).to_have_text("live")
    renewed.clear()
    for number in range(20):
        put(f"company=C{number}")
        page.wait_for_timeout(80)
    assert renewed


def test_the_stream_shows_items_as_they_come_filters_and_pauses(sign_in: Callable[..., Page], served: Any) -> None:
    page = sign_in()
    page.goto(f"{served.url}/stream")
    expect(page.locator("#link")).to_have_text("live")

    def item(number: int, sentiment: str) -> None:
        document = {
            "id": f"i{number}", "title": f"Headline {number} <b>", "publisher": "Daily", "source": "rss",
            "seen_at": "2026-01-01T00:00:00Z", "url": "javascript:alert(1)", "companies": ["JPM"],
        }  # fmt: skip
        scored = {
            "document": document, "sentiment": sentiment, "sentiment_probabilities": {sentiment: 0.9},
            "topic": "Earnings", "topic_probabilities": {"Earnings": 0.8}, "model": "small",
        }  # fmt: skip
        served.desk.stream.take(json.dumps(scored).encode())

    item(1, "negative")
    expect(page.get_by_role("row", name="Headline 1 <b>")).to_be_visible()
    assert page.locator("#items a").count() == 0
    page.get_by_label("Sentiment").select_option("positive")
    expect(page.get_by_role("row", name="Headline 1")).to_be_hidden()
    page.get_by_label("Sentiment").select_option("")
    page.get_by_role("button", name="Pause").click()
    item(2, "neutral")
    expect(page.locator("#stream-note")).to_contain_text("1 new items wait")
    assert page.get_by_text("Headline 2").count() == 0
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_text("Headline 2")).to_be_visible()

    # What is on the page already comes once, and what came while nobody saw the page is made up for.
    page.reload()
    expect(page.locator("#link")).to_have_text("live")
    _hide(page, True)
    expect(page.locator("#link")).to_have_text("not live")
    item(3, "neutral")
    served.desk.hub.tell(Message("items", msgspec.json.encode({"items": served.desk.stream.since(0), "skipped": 0})))
    _hide(page, False)
    expect(page.get_by_text("Headline 3")).to_be_visible()
    assert page.locator("#items tr").count() == 3


def test_more_pages_than_a_browser_has_connections_all_load(
    sign_in: Callable[..., Page], served: Any, put: Callable[..., Alert]
) -> None:
    first = sign_in()
    pages = [first]
    for _ in range(8):
        _hide(pages[-1], True)
        pages.append(first.context.new_page())
        pages[-1].goto(f"{served.url}/alerts")
        expect(pages[-1].locator("#link")).to_have_text("live")
    assert len(served.desk.hub._viewers) <= 2
    put()
    expect(pages[-1].locator("[data-row]")).to_contain_text("SIVB")
    assert first.locator("[data-row]").count() == 0
    _hide(first, False)
    expect(first.locator("[data-row]")).to_contain_text("SIVB")


def test_a_page_for_which_there_is_no_room_says_so_and_comes_again(sign_in: Callable[..., Page], served: Any) -> None:
    first = sign_in()
    served.desk.hub._each = 1
    second = first.context.new_page()
    second.clock.install()
    second.goto(f"{served.url}/alerts")
    expect(second.locator("#toasts")).to_contain_text("as many of your pages are kept up to date as may be (1)")
    expect(second.locator("#link")).to_have_text("not live")
    _hide(first, True)
    expect(first.locator("#link")).to_have_text("not live")
    second.clock.fast_forward(61_000)
    expect(second.locator("#link")).to_have_text("live")


def _hide(page: Page, hidden: bool) -> None:
    """What a browser does with a tab that is behind another; without a window it never does."""
    page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


@pytest.mark.parametrize(("width", "scheme"), [(1000, "light"), (1000, "dark"), (390, "light"), (390, "dark")])
def test_every_page_can_be_used_by_everybody(
    sign_in: Callable[..., Page], served: Any, put: Callable[..., Alert], tmp_path: Path, width: int, scheme: str
) -> None:
    alert = put()
    page = sign_in(width, scheme)
    for path in (*_PAGES, f"/alerts/{alert.id}", "/signin"):
        page.goto(served.url + path)
        name = re.sub(r"\W+", "-", path).strip("-") or "now"
        page.screenshot(path=tmp_path / f"{name[:20]}-{scheme}-{width}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        found = Axe().run(page).response["violations"]
        serious = [(v["id"], v["nodes"][0]["html"][:200]) for v in found if v["impact"] in ("serious", "critical")]
        assert not serious, path
