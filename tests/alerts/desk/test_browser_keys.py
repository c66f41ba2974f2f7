"""In a real browser: the keys that a page has, and the dialog that lists them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from alerts.alert import Alert


def keys_of(page: Page) -> Locator:
    return page.get_by_role("dialog", name="Keys")


def test_single_keys_can_be_turned_off(sign_in: Callable[..., Page], put: Callable[..., Alert]) -> None:
    put()
    page = sign_in()
    button, row = page.get_by_role("button", name="Keys"), page.locator("[data-row]")
    switch = keys_of(page).get_by_role("button", name="Single keys are shortcuts")
    for on in (True, False, True):
        expect(page.locator("#link")).to_have_text("live")
        page.keyboard.press("/")
        search = expect(page.get_by_label("Search"))
        search.to_be_focused() if on else search.not_to_be_focused()
        page.keyboard.press("Escape")
        page.keyboard.press("j")
        expect(row).to_be_focused() if on else expect(row).not_to_be_focused()
        page.keyboard.press("?")
        expect(keys_of(page)).to_be_visible() if on else expect(keys_of(page)).to_be_hidden()
        page.keyboard.press("Escape")
        button.click()
        expect(switch).to_have_attribute("aria-pressed", "true" if on else "false")
        switch.click()
    button.click()
    expect(switch).to_have_attribute("aria-pressed", "false")


@pytest.mark.parametrize(("width", "scheme"), [(1000, "light"), (390, "dark")])
def test_the_dialog_opens_by_key_and_button_holds_the_focus_and_gives_it_back(
    sign_in: Callable[..., Page], put: Callable[..., Alert], width: int, scheme: str
) -> None:
    put()
    page = sign_in(width, scheme)
    dialog, button = keys_of(page), page.get_by_role("button", name="Keys")
    button.click()
    expect(dialog.get_by_role("heading", name="Keys")).to_be_focused()
    for _ in range(6):  # round and round: what is behind it is out of reach, but for the browser's own bar
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement === document.body || !!document.activeElement.closest('dialog')")
    page.keyboard.press("j")
    expect(page.locator("[data-row]")).not_to_be_focused()  # no key goes past it
    found = Axe().run(page).response["violations"]
    assert not [each["id"] for each in found if each["impact"] in ("serious", "critical")]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(button).to_be_focused()
    page.keyboard.press("j")
    page.keyboard.press("?")
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name="Close").click()
    expect(page.locator("[data-row]")).to_be_focused()
    page.keyboard.press("?")
    page.mouse.click(2, 500)  # beside it
    expect(dialog).to_be_hidden()


def test_each_key_that_is_listed_does_what_is_said(
    sign_in: Callable[..., Page], served: Any, put: Callable[..., Alert]
) -> None:
    put(minutes_ago=5)
    put("company=JPM")
    page = sign_in()
    page.keyboard.press("?")
    listed = {
        tuple(row.locator("kbd").all_inner_texts()): row.locator("dd").inner_text()
        for row in keys_of(page).locator("dl > div").all()
    }
    page.keyboard.press("Escape")
    rows, search = page.locator("[data-row]"), page.get_by_label("Search")
    tick = page.locator("[data-pick]").nth(1)

    def pressed(*keys: str) -> None:
        words = listed.pop(keys)
        assert words
        for key in keys:
            page.keyboard.press({"Esc": "Escape"}.get(key, key))

    pressed("?")
    expect(keys_of(page)).to_be_visible()
    page.keyboard.press("Escape")
    pressed("/")
    expect(search).to_be_focused()
    pressed("Esc")
    expect(search).not_to_be_focused()
    pressed("j")
    expect(rows.nth(0)).to_be_focused()
    page.keyboard.press("j")
    expect(rows.nth(1)).to_be_focused()
    pressed("x")
    expect(tick).to_be_checked()
    pressed("k")
    expect(rows.nth(0)).to_be_focused()
    pressed("Enter")
    page.wait_for_url(f"{served.url}/alerts/*")
    for key, path in (("n", "/"), ("a", "/alerts"), ("s", "/stream"), ("h", "/health")):
        pressed("g", key)
        page.wait_for_url(f"{served.url}{path}")
        expect(page.locator("#link")).to_have_text("live")
    assert not listed
