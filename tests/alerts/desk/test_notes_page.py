"""Notes on the desk: written by form and by the API, shown to all as text, in the history and with the alert's line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from redis import Redis

from alerts import life
from alerts.alert import Alert
from alerts.notes import MAX_NOTES

HOSTILE = "<script>alert(1)</script>\u202e {{7*7}}\n<img src=x>"


def test_a_note_is_in_the_api_the_history_the_list_and_the_audit_log(
    served: Any, put: Callable[..., Alert], store: Redis
) -> None:
    alert = put()
    path = f"/api/v1/alerts/{alert.id}"
    done = served.client.post(f"{path}/note", json={"text": "  they\x00 know  \n\n of it"}).json()
    assert (done["event"], done["actor"], done["reason"], done["state"]) == (
        "noted",
        "jo",
        "they know\nof it",
        "firing",
    )
    assert [step["reason"] for step in served.reader.get(path).json()["transitions"]][1:] == ["they know\nof it"]
    assert served.client.get("/api/v1/alerts").json()["alerts"][0]["notes"] == 1
    assert "1 note<" in served.client.get("/alerts").text
    page = served.reader.get(f"/alerts/{alert.id}").text
    assert '<strong>jo</strong> noted: <span class="words">they know\nof it</span>' in page
    assert "<textarea" not in page  # who may only read writes none
    assert "<textarea" in served.client.get(f"/alerts/{alert.id}").text
    entry = served.client.get("/api/v1/audit").json()["entries"][0]
    assert (entry["what"], entry["target"], entry["detail"]) == ("note", alert.id, "they know\nof it")


def test_what_is_no_note_is_refused(served: Any, put: Callable[..., Alert]) -> None:
    alert = put()
    path = f"/api/v1/alerts/{alert.id}/note"
    assert served.reader.post(path, json={"text": "x"}).status_code == 403
    assert served.client.post(f"/api/v1/alerts/{'0' * 32}/note", json={"text": "x"}).status_code == 404
    for body in ({}, {"text": ""}, {"text": "\u202e"}, {"text": "x" * 501}, {"text": 5}, {"text": "x", "more": 1}):
        assert served.client.post(path, json=body).status_code == 422, body
    for number in range(MAX_NOTES):
        assert served.client.post(path, json={"text": f"note {number}"}).status_code == 200
    assert served.client.post(path, json={"text": "note 7"}).status_code == 200  # it was sent twice
    full = served.client.post(path, json={"text": "x"})
    assert (full.status_code, full.json()["detail"]) == (409, "SIVB: the alert has 50 notes; there is no room for more")


def test_a_note_by_form_is_text(served: Any, put: Callable[..., Alert]) -> None:
    alert = put()
    with httpx.Client(base_url=served.url, trust_env=False, follow_redirects=True) as browser:
        browser.post("/signin", data={"token": served.token})
        csrf = browser.get("/api/v1/me").json()["csrf"]
        page = browser.post(f"/alerts/{alert.id}/note", data={"csrf": csrf, "text": HOSTILE})
        assert page.status_code == 200
        assert "&lt;script&gt;alert(1)&lt;/script&gt; {{7*7}}\n&lt;img" in page.text
        assert browser.post(f"/alerts/{alert.id}/note", data={"csrf": csrf, "text": " "}).status_code == 422
        assert browser.post(f"/alerts/{alert.id}/note", data={"csrf": csrf, "text": "x" * 501}).status_code == 422
        assert browser.post(f"/alerts/{alert.id}/note", data={"text": "x"}).status_code == 403
        for each in (f"/alerts/{alert.id}", "/audit"):
            assert "<script>alert" not in browser.get(each).text


def test_a_history_that_is_not_whole_says_so(
    served: Any, put: Callable[..., Alert], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life, "KEPT", 24)
    alert = put()
    path = f"/api/v1/alerts/{alert.id}"
    assert served.client.get(path).json()["left_out"] == 0
    assert "are not kept" not in served.client.get(f"/alerts/{alert.id}").text
    for _ in range(13):
        laid = served.client.post(f"{path}/silence", json={"minutes": 60, "reason": "known"}).json()
        served.client.delete(f"/api/v1/silences/{laid['id']}")
    found = served.client.get(path).json()
    assert (len(found["transitions"]), found["left_out"], found["life"]["transitions"]) == (24, 3, 27)
    assert "3 more between these are not kept" in served.client.get(f"/alerts/{alert.id}").text
