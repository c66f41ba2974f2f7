"""In a real browser: whatever texts from outside hold, they are shown as text, and no script of theirs runs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import msgspec
from playwright.sync_api import Page, expect
from redis import Redis

from alerts.alert import Alert, Also, Child
from alerts.now import Row, Table
from alerts.outbox import Outbox
from tests.alerts.rig import deliveries, queue

RUNS = "ran()"
HOSTILE = (
    f"<img src=/x onerror={RUNS}><script>{RUNS}</script>\"'><svg onload={RUNS}></title></textarea>{{{{7*7}}}}\u202e"
)
"""Mark-up that runs a script, in each way by which a text can be put into a page."""


def _alert(alert: Alert) -> dict[str, Any]:
    """All fields of an alert that hold texts from outside, made hostile."""
    story = msgspec.structs.replace(
        alert.stories[0], title=HOSTILE, publisher=HOSTILE, topic=HOSTILE, source=HOSTILE, companies=(HOSTILE,),
        url=f"javascript:{RUNS}", words=(("<script>", 3.0), ("onerror", 2.0), ('"', 1.0)),
    )  # fmt: skip
    child = Child(series=HOSTILE, name=HOSTILE, contribution=0.4, observed=40, expected=8.0, surged=True)
    also = Also(series=HOSTILE, name=HOSTILE, figures=alert.figures)
    return {
        "name": HOSTILE, "summary": HOSTILE, "stories": (story,), "children": (child,), "also": (also,),
        "rule": HOSTILE, "parent": f"company={HOSTILE}",
    }  # fmt: skip


def _table() -> bytes:
    row = Row(
        series=f"company={HOSTILE}", name=HOSTILE, kind="company", state="normal", window_min=60, observed=3, others=17,
        expected=3.1, low=0, high=7, z=0.1, strength=0.1, share=0.15, items_min=0.3, usual_min=0.3, bin_min=60,
        negatives=[1, 2], totals=[3, 4],
    )  # fmt: skip
    made = Table(
        minute=int(time.time() // 60), written_at=time.time(), series=1, warming_up=HOSTILE, missing=1, rows=[row]
    )
    return msgspec.msgpack.encode(made)


def _scored() -> bytes:
    document = {
        "id": HOSTILE, "title": HOSTILE, "publisher": HOSTILE, "source": HOSTILE, "companies": [HOSTILE],
        "seen_at": "2026-01-01T00:00:00Z", "url": f"javascript:{RUNS}",
    }  # fmt: skip
    scored = {"document": document, "sentiment": HOSTILE, "topic": HOSTILE, "model": HOSTILE}
    likely = {"sentiment_probabilities": {HOSTILE: 0.9}, "topic_probabilities": {HOSTILE: 0.8}}
    return json.dumps(scored | likely).encode()


def _is_text(page: Page) -> None:
    """The text is there, none of its mark-up is, and nothing of it has run."""
    expect(page.get_by_text("onerror=").first).to_be_attached()
    assert page.evaluate("window.found") == []
    assert page.locator("[onerror], [onload], script:not([src]), [src='/x'], [href^='javascript']").count() == 0
    assert "7*7" in page.content()


def test_no_script_of_a_text_runs(
    sign_in: Callable[..., Page], served: Any, put: Callable[..., Alert], alert: Alert, store: Redis
) -> None:
    page = sign_in()
    page.add_init_script(f"window.found = []; window.{RUNS.removesuffix('()')} = () => window.found.push(location)")
    page.on("dialog", lambda dialog: dialog.dismiss())
    page.reload()
    expect(page.locator("#link")).to_have_text("live")
    made = put(f"company={HOSTILE}", **_alert(alert))  # which a page that is open tells of
    expect(page.locator("#toasts")).to_contain_text("onerror=")
    expect(page.locator("[data-row]")).to_contain_text("onerror=")
    _is_text(page)

    path, body = f"/api/v1/alerts/{made.id}", {"reason": HOSTILE}
    assert served.client.post(f"{path}/acknowledge", json=body).status_code == 200
    assert served.client.post(f"{path}/note", json={"text": HOSTILE}).status_code == 200
    assert served.client.post(f"{path}/silence", json=body | {"minutes": 60}).status_code == 200
    correction = {"story": 0, "about": "topic", "label": "Earnings"}
    assert served.client.post(f"{path}/correction", json=correction).status_code == 200
    assert served.client.post(f"{path}/verdict", json={"verdict": "useful"}).status_code == 200
    store.set("nq:{alerts}:now", _table())
    outbox = Outbox(store)
    outbox.disable(HOSTILE, HOSTILE)
    (delivery,) = deliveries("alert.firing", made, [HOSTILE], 0.0)
    queue(store, [delivery], 0.0)
    assert outbox.give_up(msgspec.structs.replace(delivery, reason=HOSTILE), 0.0)
    served.desk.stream.take(_scored())

    for shown in ("/", "/alerts", f"/alerts/{made.id}", "/stream", "/silences", "/health", "/audit"):
        page.goto(served.url + shown)
        expect(page.locator("#link")).to_have_text("live")
        _is_text(page)
    page.goto(f"{served.url}/stream")
    served.desk.stream.take(_scored().replace(b'"id": "', b'"id": "2'))  # which the page's script writes
    expect(page.locator("#items tr")).to_have_count(2)
    _is_text(page)

    other = page.context.new_page()  # whose console may tell of answers that refuse
    other.goto(f"{served.url}/alerts/{made.id}")
    expect(other.locator("#link")).to_have_text("live")
    other.get_by_text("Resolve …").click()
    served.client.post(f"{path}/resolve", json=body)
    other.locator("form[action$=resolve]").get_by_role("button").click()
    expect(other.get_by_role("alert")).to_contain_text("onerror=")  # what went wrong names the alert
    assert other.locator("[onerror], [onload], script:not([src])").count() == 0
