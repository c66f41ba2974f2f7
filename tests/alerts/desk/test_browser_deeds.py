"""In a real browser: an alert reopened, notes that others see at once, and several alerts dealt with in one go."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from redis import Redis

from alerts.alert import Alert
from alerts.store import AlertStore


def test_an_alert_resolved_by_mistake_is_reopened_on_its_page(
    sign_in: Callable[..., Page], served: Any, put: Callable[..., Alert]
) -> None:
    alert = put()
    page = sign_in()
    page.goto(f"{served.url}/alerts/{alert.id}")
    expect(page.locator("#link")).to_have_text("live")
    expect(page.get_by_text("Reopen …")).to_have_count(0)
    page.get_by_text("Resolve …").click()
    page.get_by_role("button", name="Resolve: it is over for us").click()
    expect(page.locator("#status")).to_contain_text("resolved")
    page.get_by_text("Reopen …").press("Enter")
    page.locator("#do-reopen").get_by_label("Why").fill("the wrong one")
    page.locator("#do-reopen").get_by_label("Why").press("Enter")
    expect(page.locator("#toasts")).to_contain_text("SIVB: reopened (critical)")
    expect(page.locator("#status")).to_contain_text("firing")
    expect(page.locator("#history")).to_contain_text("reopened by jo the wrong one")
    expect(page.get_by_role("button", name="Acknowledge", exact=True)).to_be_visible()
    assert served.client.get(f"/api/v1/alerts/{alert.id}").json()["life"]["state"] == "firing"


def test_why_it_is_not_reopened_stands_at_its_form_with_a_link(
    sign_in: Callable[..., Page], served: Any, put: Callable[..., Alert], store: Redis
) -> None:
    alert = put(minutes_ago=30)
    served.client.post(f"/api/v1/alerts/{alert.id}/resolve", json={})
    AlertStore(store).put(msgspec.structs.replace(alert, revision=2, status="resolved"))
    page = sign_in().context.new_page()  # whose console may tell of answers that refuse
    page.goto(f"{served.url}/alerts/{alert.id}")
    page.get_by_text("Reopen …").click()
    expect(page.locator("#do-reopen")).to_contain_text("Its surge is over")
    other = put()
    page.get_by_role("button", name="Reopen: it was resolved by mistake").click()
    expect(page.get_by_role("alert")).to_contain_text("another alert tells of company=SIVB since")
    page.get_by_role("alert").get_by_role("link", name="To that alert").click()
    expect(page).to_have_url(f"{served.url}/alerts/{other.id}")


def test_a_note_is_seen_by_others_at_once_and_stays_text(
    sign_in: Callable[..., Page], served: Any, put: Callable[..., Alert]
) -> None:
    alert = put()
    page, other = sign_in(), sign_in(390)
    for each in (page, other):
        each.goto(f"{served.url}/alerts/{alert.id}")
        expect(each.locator("#link")).to_have_text("live")
    other.get_by_label("A note for all").fill("half wri")
    page.get_by_label("A note for all").fill("called them\n<b>they know</b>")
    page.get_by_role("button", name="Write it down").click()
    expect(page.locator("#toasts")).to_contain_text("Noted")
    for each in (page, other):
        expect(each.locator("#history")).to_contain_text("jo noted: called them")
        expect(each.locator("#history .words")).to_have_text(re.compile("<b>they know</b>"))
    expect(page.get_by_label("A note for all")).to_have_value("")
    expect(other.get_by_label("A note for all")).to_have_value("half wri")
    assert served.client.get("/api/v1/alerts").json()["alerts"][0]["notes"] == 1


@pytest.mark.parametrize("width", [1000, 390])
def test_several_alerts_are_dealt_with_at_once(
    sign_in: Callable[..., Page], served: Any, put: Callable[..., Alert], width: int
) -> None:
    made = [put(f"company=C{number}", minutes_ago=10 + number) for number in range(4)]
    page = sign_in(width)
    expect(page.locator("[data-row]")).to_have_count(4)
    bar = page.locator("#together")
    expect(bar).to_be_hidden()
    page.get_by_label("Choose C1").check()
    page.get_by_label("Choose C2").check()
    expect(bar).to_contain_text("2 ticked")
    put("company=NEW", minutes_ago=1)  # what comes meanwhile takes no tick away
    expect(page.locator("[data-row]")).to_have_count(5)
    expect(bar).to_contain_text("2 ticked")
    expect(page.get_by_label("Choose C2")).to_be_focused()
    served.client.post(f"/api/v1/alerts/{made[2].id}/acknowledge", json={})
    expect(page.get_by_text("jo is on it")).to_be_visible()
    bar.get_by_label("Why").fill("one thing")
    bar.get_by_role("button", name="Acknowledge").click()
    outcomes = page.locator("#outcomes")
    expect(outcomes.get_by_role("heading")).to_have_text("1 of 2 done")
    expect(outcomes.get_by_role("heading")).to_be_focused()
    expect(outcomes).to_contain_text("C1: acknowledged")
    expect(outcomes).to_contain_text("C2: the alert was acknowledged by jo")
    expect(bar).to_be_hidden()
    expect(page.locator("[data-pick]:checked")).to_have_count(0)
    step = served.client.get(f"/api/v1/alerts/{made[1].id}").json()["transitions"][-1]
    assert (step["event"], step["reason"]) == ("acknowledged", "one thing")

    page.get_by_label("Choose C0").check()
    page.get_by_role("button", name="Tick all").click()
    expect(bar).to_contain_text("5 ticked")
    bar.get_by_label("for").select_option("4 hours")
    bar.get_by_role("button", name="Silence").click()
    expect(outcomes.get_by_role("heading")).to_have_text("5 of 5 done")
    expect(outcomes).to_contain_text("C0: silenced until")
    page.get_by_label("Choose C0").check()
    bar.get_by_role("button", name="Resolve").click()
    expect(outcomes).to_contain_text("C0: resolved")
    expect(page.get_by_label("Choose C0")).to_have_count(0)
    page.get_by_role("button", name="Put this away").click()
    expect(outcomes).to_be_hidden()


def test_by_keys_alone(sign_in: Callable[..., Page], served: Any, put: Callable[..., Alert]) -> None:
    for number in range(3):
        put(f"company=C{number}", minutes_ago=10 + number)
    page = sign_in()
    rows = page.locator("[data-row]")
    expect(rows).to_have_count(3)
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("j")
    expect(rows.nth(1)).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(page.locator("[data-pick]").nth(1)).to_be_focused()
    page.keyboard.press("Space")
    expect(page.locator("#together")).to_contain_text("2 ticked")
    page.keyboard.press("j")
    expect(rows.nth(2)).to_be_focused()
    page.locator("#together").get_by_role("button", name="Acknowledge").press("Enter")
    expect(page.locator("#outcomes").get_by_role("heading")).to_have_text("2 of 2 done")


def test_what_is_resolved_elsewhere_is_ticked_no_more_and_a_search_leaves_no_hidden_tick(
    sign_in: Callable[..., Page], served: Any, put: Callable[..., Alert]
) -> None:
    made = [put(f"company=C{number}", minutes_ago=10 + number) for number in range(2)]
    page = sign_in()
    bar = page.locator("#together")
    page.get_by_label("Choose C0").check()
    page.get_by_label("Choose C1").check()
    served.client.post(f"/api/v1/alerts/{made[0].id}/resolve", json={})
    expect(bar).to_contain_text("1 ticked")
    page.get_by_label("Search").fill("nothing")
    expect(bar).to_be_hidden()
    page.get_by_label("Search").fill("")
    expect(page.get_by_label("Choose C1")).not_to_be_checked()


@pytest.mark.parametrize(("width", "scheme"), [(1000, "light"), (1000, "dark"), (390, "light"), (390, "dark")])
def test_all_of_it_can_be_used_by_everybody(
    sign_in: Callable[..., Page], served: Any, put: Callable[..., Alert], tmp_path: Path, width: int, scheme: str
) -> None:
    made = [put(f"company=C{number}", minutes_ago=10 + number) for number in range(12)]
    path = f"/api/v1/alerts/{made[0].id}"
    served.client.post(f"{path}/note", json={"text": "Called the bank: they know.\nThe next look is at noon."})
    page = sign_in(width, scheme)

    def look(name: str) -> None:
        page.screenshot(path=tmp_path / f"{name}-{scheme}-{width}.png")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        found = Axe().run(page).response["violations"]
        serious = [(v["id"], v["nodes"][0]["html"][:200]) for v in found if v["impact"] in ("serious", "critical")]
        assert not serious, name

    page.get_by_label("Choose C1", exact=True).check()
    page.get_by_label("Choose C2", exact=True).check()
    look("ticked")
    served.client.post(f"/api/v1/alerts/{made[2].id}/acknowledge", json={})
    expect(page.get_by_text("jo is on it")).to_be_visible()
    page.locator("#together").get_by_role("button", name="Acknowledge").click()
    expect(page.locator("#outcomes").get_by_role("heading")).to_have_text("1 of 2 done")
    look("outcomes")
    served.client.post(f"{path}/resolve", json={"reason": "over"})
    page.goto(f"{served.url}/alerts/{made[0].id}")
    page.get_by_text("Reopen …").click()
    look("reopen")
    page.get_by_label("A note for all").scroll_into_view_if_needed()
    look("note")
