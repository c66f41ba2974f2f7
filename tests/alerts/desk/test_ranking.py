"""The order of an analyst's list: learnt from what they do, theirs alone, never hiding anything."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from redis import Redis

from alerts.alert import Alert
from alerts.desk.ranking import _KEPT, _SPARE, Act, Deed, Ranking

AT = datetime(2026, 3, 9, 18, 4, tzinfo=UTC)


def _alert(alert: Alert, number: int, topic: str, **fields: Any) -> tuple[Alert, str]:
    series = f"company=C{number};topic={topic}"
    return msgspec.structs.replace(alert, id=f"{number:032x}", series=series, started_at=AT, **fields), topic


def _live(ranking: Ranking, who: str, alert: Alert, days: int) -> None:
    """Somebody who acknowledges what is about credit and dismisses dividends."""
    for day in range(days):
        deeds: tuple[tuple[str, Deed], ...] = (("Credit", "acknowledged"), ("Dividends", "dismissed"))
        for topic, deed in deeds:
            number = 2 * day + (topic == "Credit")
            shown, named = _alert(alert, number, topic)
            at = AT + timedelta(hours=number)
            ranking.note(who, "opened", shown, named, at)
            ranking.note(who, deed, shown, named, at)


def test_dividends_sink_for_who_dismisses_them_and_for_nobody_else(store: Redis, alert: Alert) -> None:
    ranking = Ranking(store, on=True, after=20)
    _live(ranking, "jo", alert, 15)
    shown = [_alert(alert, 1_001, "Dividends"), _alert(alert, 1_002, "Credit"), _alert(alert, 1_003, "Mergers")]
    places = ranking.places("jo", shown, AT)
    assert places is not None
    dividends, credit, mergers = places
    assert dividends.score < mergers.score < credit.score
    assert dividends.score < 0.3
    assert dividends.why[0] == "− topic Dividends"
    assert "+ topic Credit" in credit.why
    assert ranking.places("al", shown, AT) is None
    again = Ranking(store, on=True, after=20)  # after a restart
    assert again.places("jo", shown, AT) == places


def test_nothing_is_ordered_before_enough_was_done_nor_when_it_is_off(store: Redis, alert: Alert) -> None:
    ranking = Ranking(store, on=True, after=20)
    _live(ranking, "jo", alert, 9)
    assert ranking.acted("jo") == 18
    assert ranking.places("jo", [_alert(alert, 1, "Credit")], AT) is None
    _live(ranking, "jo", alert, 10)
    assert ranking.places("jo", [_alert(alert, 1, "Credit")], AT) is not None
    off = Ranking(store, on=False, after=20)
    assert off.places("jo", [_alert(alert, 1, "Credit")], AT) is None
    off.note("al", "acknowledged", *_alert(alert, 1, "Credit"), AT)
    assert not store.exists("nq:{desk}:acts:al")


def test_a_mind_is_changed_and_to_look_again_changes_nothing(store: Redis, alert: Alert) -> None:
    ranking = Ranking(store, on=True, after=1)
    shown = _alert(alert, 1, "Credit")

    def score() -> float:
        found = ranking.places("jo", [shown], AT)
        assert found is not None
        return found[0].score

    ranking.note("jo", "dismissed", *shown, AT)
    dismissed = score()
    ranking.note("jo", "opened", *shown, AT)
    assert score() == dismissed < 0.5
    ranking.note("jo", "acknowledged", *shown, AT)
    assert score() > 0.5
    assert ranking.acted("jo") == 1


def test_what_is_kept_of_a_person_is_bounded(store: Redis, alert: Alert) -> None:
    ranking = Ranking(store, on=True, after=20)
    for number in range(_KEPT + 2 * _SPARE):
        ranking.note("jo", "opened", *_alert(alert, number, "Credit"), AT + timedelta(hours=number))
    assert ranking.acted("jo") <= _KEPT + _SPARE
    assert not store.hexists("nq:{desk}:acts:jo", f"{0:032x}"), "the oldest goes"
    assert 0 < store.ttl("nq:{desk}:acts:jo") <= 90 * 86_400


def test_what_cannot_be_read_takes_no_place_of_what_can(store: Redis, alert: Alert) -> None:
    """Another version's deeds count towards the limit, and go first."""
    ranking, key = Ranking(store, on=True, after=20), "nq:{desk}:acts:jo"
    act = {number: Act(deed="opened", at=AT + timedelta(minutes=number), features={}) for number in range(492)}
    store.hset(key, mapping={f"a{number}": msgspec.json.encode(each) for number, each in act.items()})
    store.hset(key, mapping={f"u{number}": b'{"deed":"shared"}' for number in range(60)})
    for number in range(70):
        shown, topic = _alert(alert, number, "Credit")
        ranking.note("jo", "acknowledged", shown, topic, AT + timedelta(days=1, minutes=number))
    left = {field.decode() for field in store.hkeys(key)}
    assert {f"{number:032x}" for number in range(70)} < left
    assert not any(field.startswith("u") for field in left)
    assert _KEPT <= len(left) - 1 <= _KEPT + _SPARE
    assert {f"a{number}" for number in range(_SPARE, 492)} < left


def test_the_list_is_ordered_for_who_asks_and_holds_all(
    serve: Callable[..., Any], put: Callable[..., Alert], alert: Alert, store: Redis
) -> None:
    served = serve(ranking_after=4)
    assert served.client.get("/api/v1/alerts?order=mine").json()["ranked"] is False
    first = [put(f"company=A{number};topic=Dividends", minutes_ago=30 + number) for number in range(6)]
    second = [put(f"company=B{number};topic=Earnings", minutes_ago=60 + number) for number in range(6)]
    for one in first[:4]:
        assert served.client.post(f"/api/v1/alerts/{one.id}/dismiss").status_code == 204
    for one in second[:4]:
        assert served.client.post(f"/api/v1/alerts/{one.id}/acknowledge", json={}).status_code == 200
    found = served.client.get("/api/v1/alerts?order=mine").json()
    assert found["ranked"] is True
    ids = [each["id"] for each in found["alerts"]]
    assert set(ids) == {one.id for one in first + second}, "nothing is hidden"
    assert {*ids[:6]} == {one.id for one in second}
    assert any("topic Dividends" in reason for reason in found["alerts"][-1]["place"]["why"])
    newest = [each["id"] for each in served.client.get("/api/v1/alerts").json()["alerts"]]
    assert newest == [one.id for one in first + second]
    assert [each["id"] for each in served.reader.get("/api/v1/alerts?order=mine").json()["alerts"]] == newest
    minor = put("company=W;topic=Earnings", severity="warning")
    assert served.client.get("/api/v1/alerts?order=mine").json()["alerts"][-1]["id"] == minor.id  # critical ones first
    page = re.sub(r'title="[^"]*"', "", served.client.get("/alerts").text)  # which only a mouse shows
    assert "against its" in page
    assert "topic Dividends" in page
    assert page.index(second[0].id) < page.index(first[0].id)
    assert "topic Dividends" not in served.client.get("/alerts?order=newest").text
    assert served.reader.post(f"/api/v1/alerts/{first[5].id}/dismiss").status_code == 403
    kinds = [entry["what"] for entry in served.client.get("/api/v1/audit").json()["entries"]]
    assert kinds.count("dismiss") == 4


def test_to_open_a_page_is_noted_and_its_refreshing_is_not(
    served: Any, put: Callable[..., Alert], store: Redis
) -> None:
    one = put()
    served.client.get(f"/alerts/{one.id}", headers={"x-refresh": "1"})
    assert not store.exists("nq:{desk}:acts:jo")
    served.client.get(f"/alerts/{one.id}")
    assert b'"opened"' in store.hget("nq:{desk}:acts:jo", one.id)


def test_precision_stands_on_the_health_page_and_in_the_api(served: Any, put: Callable[..., Alert]) -> None:
    for number, verdict in enumerate(("useful", "useful", "false_alarm")):
        one = put(f"company=C{number}", rule="banks", minutes_ago=5 + number)
        served.client.post(f"/api/v1/alerts/{one.id}/verdict", json={"verdict": verdict})
    rows = served.client.get("/api/v1/precision").json()["rows"]
    assert {"by": "rule", "name": "banks", "useful": 2, "false_alarm": 1} in rows
    assert "banks" in (page := served.client.get("/health").text)
    assert "67 %" in page
