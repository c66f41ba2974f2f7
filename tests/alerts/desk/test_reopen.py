"""On the desk: an alert that was resolved by mistake is reopened, or the page says why not and where to look."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest
from redis import Redis

from alerts.actions import Actions
from alerts.alert import Alert
from alerts.store import AlertStore

BUTTON = "Reopen: it was resolved by mistake"


@pytest.fixture
def over(store: Redis) -> Callable[[Alert], None]:
    """Ends an alert's surge."""

    def end(alert: Alert) -> None:
        AlertStore(store).put(msgspec.structs.replace(alert, revision=alert.revision + 1, status="resolved"))

    return end


@pytest.fixture
def browser(served: Any) -> Any:
    """Somebody signed in whose browser runs no scripts."""
    with httpx.Client(base_url=served.url, trust_env=False, follow_redirects=True) as client:
        client.post("/signin", data={"token": served.token})
        yield client


def test_by_the_api_it_fires_again_and_the_audit_log_has_it(
    served: Any, put: Callable[..., Alert], over: Callable[[Alert], None]
) -> None:
    alert = put()
    path = f"/api/v1/alerts/{alert.id}"
    assert served.client.post(f"{path}/reopen", json={}).status_code == 409
    served.client.post(f"{path}/resolve", json={"reason": "the wrong one"})
    over(alert)
    assert served.reader.post(f"{path}/reopen", json={}).status_code == 403
    done = served.client.post(f"{path}/reopen", json={"reason": "it was the other"}).json()
    assert (done["event"], done["state"], done["actor"]) == ("reopened", "firing", "jo")
    assert [each["state"] for each in served.client.get("/api/v1/alerts").json()["alerts"]] == ["firing"]
    again = served.client.post(f"{path}/reopen", json={})
    assert (again.status_code, again.json()["detail"]) == (409, "SIVB: the alert is not resolved")
    assert served.client.post(f"/api/v1/alerts/{'0' * 32}/reopen", json={}).status_code == 404
    audit = [(each["what"], each["detail"]) for each in served.client.get("/api/v1/audit").json()["entries"]]
    assert audit == [("reopen", "it was the other"), ("resolve", "the wrong one")]


def test_another_alert_on_its_series_is_named_and_linked(
    served: Any, put: Callable[..., Alert], over: Callable[[Alert], None], browser: httpx.Client
) -> None:
    alert = put(minutes_ago=30)
    served.client.post(f"/api/v1/alerts/{alert.id}/resolve", json={})
    over(alert)
    other = put()
    refused = served.client.post(f"/api/v1/alerts/{alert.id}/reopen", json={})
    assert (refused.status_code, refused.json()["alert"]) == (409, other.id)
    assert "SIVB: another alert tells of company=SIVB since" in refused.json()["detail"]
    csrf = browser.get("/api/v1/me").json()["csrf"]
    page = browser.post(f"/alerts/{alert.id}/reopen", data={"csrf": csrf})
    assert page.status_code == 409
    assert f'<a href="/alerts/{other.id}">To that alert</a>' in page.text


def test_the_page_offers_it_where_it_can_be_and_it_works_without_scripts(
    served: Any, put: Callable[..., Alert], over: Callable[[Alert], None], browser: httpx.Client, store: Redis
) -> None:
    alert = put()
    page = f"/alerts/{alert.id}"
    assert BUTTON not in browser.get(page).text
    Actions(store).resolve(alert.id, "ben")
    shown = browser.get(page).text
    assert BUTTON in shown
    assert "Its surge is over" not in shown
    assert BUTTON not in served.reader.get(page).text
    over(alert)
    assert "Its surge is over: unless another begins, it is soon resolved by itself" in browser.get(page).text
    csrf = browser.get("/api/v1/me").json()["csrf"]
    after = browser.post(f"{page}/reopen", data={"csrf": csrf, "reason": "the wrong one"})
    assert (after.status_code, after.url.path) == (200, page)
    assert "<strong>reopened</strong> by jo" in after.text
    assert "it is open because somebody reopened it" in after.text
    assert BUTTON not in after.text


def test_one_whose_surge_ended_by_itself_is_not_offered(
    served: Any, put: Callable[..., Alert], over: Callable[[Alert], None]
) -> None:
    alert = put()
    over(alert)
    assert BUTTON not in served.client.get(f"/alerts/{alert.id}").text
    refused = served.client.post(f"/api/v1/alerts/{alert.id}/reopen", json={})
    assert "nobody resolved it by hand" in refused.json()["detail"]


def test_one_that_was_put_back_is_not_offered_before_it_is_known_whether_its_surge_goes_on(
    served: Any, put: Callable[..., Alert], store: Redis
) -> None:
    alert, alerts = put(), AlertStore(store)
    long_ago = time.time() - 3_700
    Actions(store, lambda: long_ago).resolve(alert.id, "jo")
    assert BUTTON in served.client.get(f"/alerts/{alert.id}").text
    view = alerts.view(alert.id)
    assert view is not None
    store.delete(f"nq:{{alerts}}:life:{alert.id}")
    assert alerts.restore(view)
    assert BUTTON not in served.client.get(f"/alerts/{alert.id}").text
    refused = served.client.post(f"/api/v1/alerts/{alert.id}/reopen", json={})
    assert (refused.status_code, "is not known yet" in refused.json()["detail"]) == (409, True)
    alerts.put(msgspec.structs.replace(alert, revision=2))
    assert BUTTON in served.client.get(f"/alerts/{alert.id}").text
