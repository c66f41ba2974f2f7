"""In a real browser: times of the reader's zone, and silences that end after a length or at a time of one's own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Browser, Page, expect
from redis import Redis

from alerts.alert import Alert
from alerts.course import Bin, encode_bin
from alerts.desk.rendering import when
from alerts.silences import Silence, Silences
from alerts.store import AlertStore

TEHRAN = "Asia/Tehran"  # half an hour off, and without summer time
BODY = {"matchers": "company=SIVB", "minutes": 60, "reason": "known"}


def local(at: datetime, zone: str = TEHRAN) -> str:
    """Return a time as pages show it in a zone; English months of four letters are the browser's."""
    there = at.astimezone(ZoneInfo(zone))
    return f"{there.day} {there:%b %Y, %H:%M}".replace(" Sep ", " Sept ")


def only(store: Redis) -> Silence:
    (silence,) = Silences(store).all()
    return silence


def test_times_are_those_of_the_readers_zone_and_stay_so_as_the_page_is_renewed(
    sign_in: Callable[..., Page], served: Any, put: Callable[..., Alert]
) -> None:
    alert = put()
    page = sign_in(timezone_id=TEHRAN)
    began = page.locator("#alerts time")
    assert (began.get_attribute("title") or "").startswith(f"{local(alert.started_at)}, {TEHRAN} (GMT+3:30); ")
    page.goto(f"{served.url}/alerts/{alert.id}")
    expect(page.locator("#link")).to_have_text("live")
    fired = page.locator("#status time").first
    expect(fired).to_have_text(local(alert.started_at))
    assert fired.get_attribute("title") == f"{TEHRAN} (GMT+3:30); {when(alert.started_at)}"
    silence = served.client.post("/api/v1/silences", json=BODY).json()
    ends_at = datetime.fromisoformat(silence["ends_at"])
    expect(page.locator("#status")).to_contain_text(f"silent until {local(ends_at)}: known (jo)")
    laid_at = datetime.fromisoformat(silence["created_at"])
    expect(page.locator("#history time").first).to_have_text(local(laid_at))
    assert "UTC" not in page.locator("main").inner_text()
    page.locator("details.menu summary").click()
    expect(page.locator("details.menu")).to_contain_text(f"Times are those of {TEHRAN}")


def test_what_has_not_changed_is_left_alone_though_its_times_were_rewritten(
    sign_in: Callable[..., Page], served: Any, put: Callable[..., Alert]
) -> None:
    alert = put()
    page = sign_in(timezone_id=TEHRAN)
    page.goto(f"{served.url}/alerts/{alert.id}")
    expect(page.locator("#link")).to_have_text("live")
    page.evaluate("document.getElementById('told').kept = true")
    served.client.post(f"/api/v1/alerts/{alert.id}/acknowledge", json={"reason": ""})
    expect(page.locator("#history")).to_contain_text("acknowledged")
    assert page.evaluate("document.getElementById('told').kept") is True


def test_the_chart_and_the_stream_are_in_the_readers_zone(
    sign_in: Callable[..., Page], served: Any, put: Callable[..., Alert], store: Redis
) -> None:
    alert = put(minutes_ago=90)
    start = int(alert.started_at.timestamp() // 3600 - 26) * 60
    for hour in range(29):
        each = Bin(start + 60 * hour, 60, hour, 9, 2.5, 0, 6)
        store.hset(f"nq:{{alerts}}:course:{alert.id}", f"60:{each.start}", encode_bin(each))
    page = sign_in(timezone_id=TEHRAN)
    page.goto(f"{served.url}/alerts/{alert.id}")
    there = alert.started_at.astimezone(ZoneInfo(TEHRAN))
    chart = page.locator("svg.course")
    expect(chart.locator("text.moment")).to_have_text(f"fired {there:%H:%M}")
    labels = chart.locator("[data-axis] text").all_text_contents()
    days = [label for label in labels if ":" not in label]  # midnight, there
    assert days
    assert {*labels} - {*days} == {"06:00", "12:00", "18:00"}
    first = datetime.fromtimestamp(start * 60, UTC).astimezone(ZoneInfo(TEHRAN))
    title = chart.locator("[data-bin] title").first.text_content() or ""
    assert title.startswith(f"{first:%H:%M}-{first + timedelta(hours=1):%H:%M}: 0 negative")
    assert "UTC" not in (chart.text_content() or "")
    page.goto(f"{served.url}/stream")
    expect(page.get_by_role("columnheader", name="Seen")).to_have_text("Seen ")


AXIS = """([begin, end]) => {
    const axis = document.createElementNS("http://www.w3.org/2000/svg", "g"), root = document.createElement("div");
    axis.dataset.axis = `${begin} ${end} 1440 40 0.1 200`;
    root.append(axis);
    times.local(root);
    return [...axis.children].map((label) => label.textContent);
}"""


@pytest.mark.parametrize(
    ("first", "days"),
    [
        (datetime(2026, 3, 27, tzinfo=UTC), ["28 Mar", "29 Mar", "30 Mar", "31 Mar"]),
        (datetime(2026, 10, 23, tzinfo=UTC), ["24 Oct", "25 Oct", "26 Oct", "27 Oct"]),
    ],
)
def test_days_stand_at_midnight_though_clocks_are_put_forward_or_back(
    sign_in: Callable[..., Page], first: datetime, days: list[str]
) -> None:
    page, begin = sign_in(timezone_id="Europe/Paris"), int(first.timestamp() // 60)
    assert page.evaluate(AXIS, [begin, begin + 4 * 1_440 + 600]) == days


@pytest.mark.parametrize("script", [True, False], ids=["in UTC", "without the script"])
def test_in_utc_and_without_the_script_times_are_in_utc_and_say_so(
    browser: Browser, served: Any, put: Callable[..., Alert], script: bool
) -> None:
    alert = put()
    zone = "UTC" if script else TEHRAN
    context = browser.new_context(java_script_enabled=script, timezone_id=zone)
    page = context.new_page()
    page.goto(f"{served.url}/alerts/{alert.id}")
    page.get_by_label("Token").fill(served.token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#status time").first).to_have_text(when(alert.started_at))
    page.goto(f"{served.url}/stream")
    expect(page.get_by_role("columnheader", name="Seen")).to_have_text("Seen (UTC)")
    context.close()


def test_a_silence_ends_after_a_length_of_ones_own_or_at_a_time_of_ones_own_zone(
    sign_in: Callable[..., Page], served: Any, put: Callable[..., Alert], store: Redis
) -> None:
    alert = put()
    page = sign_in(timezone_id=TEHRAN)
    page.goto(f"{served.url}/alerts/{alert.id}")
    page.get_by_text("Silence …").click()
    form = page.locator("#do-silence")
    expect(form.get_by_label("Length", exact=True)).to_be_hidden()
    expect(form.get_by_label("Until", exact=True)).to_be_hidden()
    form.get_by_label("For").select_option("a length …")
    form.get_by_label("Length", exact=True).fill("1d12h")
    form.get_by_label("Why").fill("known")
    form.get_by_role("button").click()
    expect(page.locator("#status")).to_contain_text("silent until")
    assert only(store).ends_at - only(store).starts_at == timedelta(hours=36)
    expect(page.locator("#toasts")).to_contain_text(f"until {local(only(store).ends_at)}; covers 1 open alert now")

    page.get_by_text("Silent until …").click()
    form = page.locator("[id^=do-change]")
    form.get_by_label("For").select_option("until a time …")
    zone = form.get_by_label("In the zone")
    expect(zone).to_have_value(TEHRAN)
    zone.fill("UTC")
    for chosen in ("a length …", "until a time …"):
        form.get_by_label("For").select_option(chosen)
    expect(zone).to_have_value("UTC")  # which was chosen, too
    zone.fill(TEHRAN)
    tomorrow = datetime.now(ZoneInfo(TEHRAN)).replace(hour=17, minute=30, second=0, microsecond=0) + timedelta(days=1)
    assert form.get_by_label("Until", exact=True).input_value() > f"{datetime.now(ZoneInfo(TEHRAN)):%Y-%m-%dT%H:%M}"
    form.get_by_label("Until", exact=True).fill(f"{tomorrow:%Y-%m-%dT%H:%M}")
    form.get_by_role("button").click()
    expect(page.locator("#toasts")).to_contain_text(f"The silence ends at {local(tomorrow)}")
    expect(page.locator("#status")).to_contain_text(f"silent until {local(tomorrow)}: known (jo, end set by jo)")
    assert only(store).ends_at == tomorrow


def test_on_the_page_of_silences_another_end_is_given_seen_and_refused(
    sign_in: Callable[..., Page], served: Any, store: Redis
) -> None:
    made = served.client.post("/api/v1/silences", json=BODY).json()
    page = sign_in(timezone_id="Europe/London").context.new_page()  # whose console may tell of answers that refuse
    page.goto(f"{served.url}/silences")
    expect(page.locator("#link")).to_have_text("live")
    row = page.get_by_role("row", name='company="SIVB"')
    served.client.patch(f"/api/v1/silences/{made['id']}", json={"length": "5h"})  # from elsewhere
    expect(row).to_contain_text(local(only(store).ends_at, "Europe/London"))
    row.get_by_text("Another end …").click()
    form = page.locator(f"#do-change-{made['id']}")
    form.get_by_label("For").select_option("until a time …")
    form.get_by_label("Until", exact=True).fill("2099-03-29T01:30")
    form.get_by_role("button").click()
    problem = page.get_by_role("alert")
    expect(problem).to_contain_text("clocks in Europe/London never show 2099-03-29 01:30: they are put forward then")
    form.get_by_label("Until", exact=True).fill("2020-01-01T09:00")
    form.get_by_role("button", name="Let the silence end then").click()
    expect(problem).to_contain_text("would have ended at 2020-01-01 09:00 UTC already")
    page.get_by_text("Another end …").click()
    form.get_by_label("For").select_option("4 hours")
    form.get_by_role("button", name="Let the silence end then").click()
    expect(page.locator("#toasts")).to_contain_text("The silence ends at")
    assert timedelta(hours=3.9) < only(store).ends_at - datetime.now(UTC) <= timedelta(hours=4)


def test_in_a_replay_the_end_offered_lies_an_hour_after_the_items_and_a_phone_shows_it_whole(
    sign_in: Callable[..., Page], served: Any, store: Redis
) -> None:
    now = datetime(2023, 3, 9, 12, tzinfo=UTC)
    AlertStore(store).save_time(now.timestamp())
    served.client.post("/api/v1/silences", json=BODY)
    page = sign_in(390, timezone_id=TEHRAN)
    page.goto(f"{served.url}/silences")
    page.get_by_text("Another end …").click()
    form = page.locator("[id^=do-change]")
    form.get_by_label("For").select_option("until a time …")
    offered = datetime.fromisoformat(form.get_by_label("Until", exact=True).input_value())
    assert abs(offered.replace(tzinfo=ZoneInfo(TEHRAN)) - now - timedelta(hours=1)) < timedelta(minutes=2)
    assert page.locator(".scroll").evaluate("each => each.scrollWidth <= each.clientWidth")


def test_without_the_script_a_silence_ends_as_is_asked_for(browser: Browser, served: Any, store: Redis) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{served.url}/silences")
    page.get_by_label("Token").fill(served.token)
    page.get_by_role("button", name="Sign in").click()
    soon = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(days=2)
    page.get_by_label("Matchers").fill("company=JPM")
    form = page.locator("#do-silence")
    form.get_by_label("For").select_option("until a time …")
    form.get_by_label("Until", exact=True).fill(f"{soon:%Y-%m-%dT%H:%M}")
    expect(form.get_by_label("In the zone")).to_have_value("UTC")
    page.get_by_label("Why").fill("known")
    page.get_by_role("button", name="Silence", exact=True).click()
    expect(page.get_by_role("row", name='company="JPM"')).to_contain_text(when(soon))
    page.get_by_text("Another end …").click()
    form = page.locator("[id^=do-change]")
    form.get_by_label("For").select_option("a length …")
    form.get_by_label("Length", exact=True).fill("3h")
    form.get_by_role("button").click()
    expect(page.get_by_role("row", name='company="JPM"')).to_contain_text("end set by jo")
    assert only(store).ends_at - datetime.now(UTC) < timedelta(hours=3)
    context.close()
