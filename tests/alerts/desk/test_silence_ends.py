"""When silences end: what the desk takes for it, and another end for one that is laid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import msgspec
import pytest
from redis import Redis

from alerts.actions import ActionError, Actions
from alerts.alert import Alert
from alerts.audit import Audit
from alerts.ends import End
from alerts.matchers import Matcher
from alerts.silences import Silence, Silences, lay_silences
from alerts.store import AlertStore

AT = datetime(2026, 3, 9, 18, 4, tzinfo=UTC)
HOUR = timedelta(hours=1)
BODY = {"matchers": "company=SIVB", "reason": "known"}
NAIVE = "%Y-%m-%dT%H:%M"


def ends_in(made: dict[str, Any]) -> timedelta:
    """Return how long something lasts that the API returned, from when it was made or changed."""
    began = datetime.fromisoformat(made["changed_at"] or made["created_at"])
    return datetime.fromisoformat(made["ends_at"]) - began


@pytest.fixture
def laid(served: Any) -> str:
    """The id of a silence of an hour that jo laid."""
    return str(served.client.post("/api/v1/silences", json=BODY | {"minutes": 60}).json()["id"])


@pytest.fixture
def form(served: Any) -> Iterator[Callable[..., httpx.Response]]:
    """Sends a page's form as a browser without scripts does."""
    with httpx.Client(base_url=served.url, trust_env=False) as browser:
        browser.post("/signin", data={"token": served.token})
        csrf = browser.get("/api/v1/me").json()["csrf"]

        def send(path: str, **fields: str) -> httpx.Response:
            return browser.post(path, data={"csrf": csrf, **fields})

        yield send


def test_a_silence_lasts_as_long_or_until_as_is_asked_for(served: Any, put: Callable[..., Alert]) -> None:
    alert, soon = put(), datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(days=2)
    paris = {"at": f"{soon.astimezone(ZoneInfo('Europe/Paris')):{NAIVE}}", "zone": "Europe/Paris"}
    for path in ("silences", f"alerts/{alert.id}/silence"):
        body = BODY if path == "silences" else {"reason": "known"}

        def lay(path: str = path, body: dict[str, Any] = body, **end: Any) -> dict[str, Any]:
            answer = served.client.post(f"/api/v1/{path}", json=body | end)
            assert answer.status_code == 200, answer.text
            return dict(answer.json())

        assert ends_in(lay(minutes=7)) == timedelta(minutes=7)
        assert ends_in(lay(length="1d12h")) == timedelta(hours=36)
        for until in (soon.isoformat(), f"{soon + HOUR:{NAIVE}}+01:00", paris):
            assert datetime.fromisoformat(lay(until=until)["ends_at"]) == soon
    assert len(Silences(served.redis).all()) == 2 * 3  # until the same time it is the same one


@pytest.mark.parametrize("way", ["lay", "change"])
@pytest.mark.parametrize(
    ("end", "status", "problem"),
    [
        ({}, 422, "exactly one of minutes, length and until"),
        ({"minutes": 60, "length": "1h"}, 422, "exactly one of minutes, length and until"),
        ({"minutes": None}, 422, "exactly one of minutes, length and until"),
        ({"minutes": 60, "until": None}, 422, "exactly one of minutes, length and until"),
        ({"minutes": 43_201}, 422, "body.minutes: Input should be less than or equal to 43200"),
        ({"length": "soon"}, 422, "'soon' is no length; write one as 90m, 2h, 3d or 1d12h"),
        ({"length": "31d"}, 422, "30 days at most"),
        ({"length": "999999w"}, 422, "30 days at most"),  # beyond all dates
        ({"length": "0m"}, 409, "would have ended"),
        ({"length": "9" * 20 + "w"}, 422, "too long"),
        ({"until": "2026-03-09T18:04Z"}, 409, "would have ended at 2026-03-09 18:04 UTC already"),
        ({"until": "2099-01-01T00:00Z"}, 422, "30 days at most"),
        ({"until": "2026-03-09T18:04"}, 422, "should have timezone info"),
        ({"until": {"at": "17:30"}}, 422, "body.until.wall.zone: Field required"),
        ({"until": {"at": "17:30", "zone": ""}}, 422, "needs a zone"),
        ({"until": {"at": "17:30", "zone": "Europe/Lundon"}}, 422, "is no time zone"),
        ({"until": {"at": "2099-03-29 01:30", "zone": "Europe/London"}}, 422, "never show 2099-03-29 01:30"),
        ({"until": {"at": "2026-10-25 01:30", "zone": "Europe/London"}}, 422, "twice"),
        ({"until": {"at": "never", "zone": "UTC"}}, 422, "is no time"),
    ],
)
def test_why_it_does_not_end_then_is_said(
    served: Any, laid: str, way: str, end: dict[str, Any], status: int, problem: str
) -> None:
    if way == "lay":
        answer = served.client.post("/api/v1/silences", json=BODY | {"reason": "else"} | end)
    else:
        answer = served.client.patch(f"/api/v1/silences/{laid}", json=end)
    assert (answer.status_code, problem in answer.json()["detail"]) == (status, True), answer.text
    (silence,) = Silences(served.redis).all()
    assert (silence.id, silence.revision) == (laid, 0)
    assert [each.what for each in Audit(served.redis).last()] == ["silence"]


def test_a_silence_is_given_another_end_and_it_is_known_by_whom(served: Any, laid: str) -> None:
    before = Silences(served.redis).get(laid)
    assert before is not None
    with served.as_(served.desk.tokens.add("ben", "analyst")) as ben:
        changed = ben.patch(f"/api/v1/silences/{laid}", json={"length": "3h"}).json()
    assert (ends_in(changed), changed["changed_by"], changed["revision"]) == (3 * HOUR, "ben", 1)
    assert (changed["author"], changed["reason"]) == ("jo", "known")
    after = Silences(served.redis).get(laid)
    assert after is not None
    assert msgspec.convert(changed, Silence) == after
    note = Audit(served.redis).last()[0]
    until = f"until {after.ends_at:%Y-%m-%d %H:%M} UTC, before that until {before.ends_at:%Y-%m-%d %H:%M} UTC"
    assert (note.who, note.what, note.target, note.detail) == ("ben", "change_silence", laid, until)
    assert note.address == "127.0.0.1"
    page = served.client.get("/silences").text
    assert "end set by ben" in page
    assert until in served.client.get("/audit").text


def test_the_same_end_again_changes_nothing(served: Any, laid: str) -> None:
    soon = (datetime.now(UTC) + 5 * HOUR).isoformat()
    for end in ({"length": "3h"}, {"until": soon}):
        first, *others = (served.client.patch(f"/api/v1/silences/{laid}", json=end).json() for _ in range(3))
        assert others == [first, first]
    assert [each.what for each in Audit(served.redis).last()] == ["change_silence", "change_silence", "silence"]
    served.client.patch(f"/api/v1/silences/{laid}", json={"length": "4h"})
    assert Audit(served.redis).last()[0].detail.startswith("until ")
    found = Silences(served.redis).get(laid)
    assert found is not None
    assert found.revision == 3


def test_what_has_ended_or_is_not_there_is_given_no_other_end(served: Any, laid: str) -> None:
    path, end = f"/api/v1/silences/{laid}", {"length": "3h"}
    assert served.client.patch("/api/v1/silences/none", json=end).status_code == 404
    assert served.reader.patch(path, json=end).status_code == 403
    assert served.client.delete(path).status_code == 204
    answer = served.client.patch(path, json=end)
    assert (answer.status_code, "ended at" in answer.json()["detail"]) == (409, True)
    assert served.client.delete(path).status_code == 409
    ended = Silences(served.redis).get(laid)
    assert ended is not None
    assert (ended.changed_by, ended.revision) == ("jo", 1)
    assert [each.what for each in Audit(served.redis).last()] == ["expire_silence", "silence"]


def _silence(**fields: Any) -> Silence:
    plain: dict[str, Any] = {"id": "s1", "author": "jo", "reason": "known", "created_at": AT, "starts_at": AT}
    return Silence(matchers=(Matcher("company", "=", "SIVB"),), **{**plain, "ends_at": AT + HOUR, **fields})


def test_an_alert_is_quiet_until_the_new_end_and_told_of_then(store: Redis, put: Callable[..., Alert]) -> None:
    put()
    alerts, silences = AlertStore(store), Silences(store)
    Actions(store, AT.timestamp).silence(_silence(), "jo")
    Actions(store, (AT + 0.5 * HOUR).timestamp).change_silence("s1", AT + 2 * HOUR, "ben")

    def at(hours: float) -> list[str]:
        return [step.event for step in lay_silences(alerts, silences.all(), AT + hours * HOUR)]

    assert (at(1), at(1.99), at(2)) == ([], [], ["unsilenced"])
    with pytest.raises(ActionError, match="silence s1 ended at 2026-03-09 20:04 UTC"):
        Actions(store, (AT + 2 * HOUR).timestamp).change_silence("s1", HOUR, "ben")


@pytest.mark.parametrize(
    ("minute", "end", "lasts"),
    [
        (30, HOUR, 1.5),  # from now
        (30, AT + 0.75 * HOUR, 0.75),  # sooner
        (-60, 3 * HOUR, 3.0),  # it lies ahead: from its beginning
    ],
)
def test_a_length_counts_from_now_or_from_a_beginning_that_lies_ahead(
    store: Redis, minute: int, end: End, lasts: float
) -> None:
    Silences(store).put(_silence())
    clock = (AT + timedelta(minutes=minute)).timestamp
    assert Actions(store, clock).change_silence("s1", end, "ben").ends_at == AT + lasts * HOUR


@pytest.mark.parametrize(
    ("end", "problem"),
    [
        (AT, "must end after it begins, which is at 2026-03-09 18:04 UTC"),
        (AT - 2 * HOUR, "would have ended"),
        (AT + timedelta(days=367), "within 366 days"),
        (timedelta.max, "after the year 9999"),
    ],
)
def test_an_end_that_makes_no_sense_is_refused(store: Redis, end: End, problem: str) -> None:
    Silences(store).put(_silence())
    with pytest.raises(ActionError, match=problem):
        Actions(store, (AT - HOUR).timestamp).change_silence("s1", end, "ben")
    with pytest.raises(ActionError, match="by hand"):
        Actions(store, AT.timestamp).change_silence("s1", 2 * HOUR, "Newsquake")
    assert Silences(store).get("s1") == _silence()


@pytest.mark.parametrize("other", ["ends it", "gives it another end"])
def test_of_two_at_the_same_moment_neither_is_lost(store: Redis, monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    """Between the reading and the writing of one, another desk does something to the same silence."""
    Silences(store).put(_silence())
    actions, usual = Actions(store, AT.timestamp), Silences.all

    def read(silences: Silences) -> list[Silence]:
        found = usual(silences)
        monkeypatch.setattr(Silences, "all", usual)
        if other == "ends it":
            actions.expire_silence("s1", "jo")
        else:
            actions.change_silence("s1", 5 * HOUR, "jo")
        return found

    monkeypatch.setattr(Silences, "all", read)
    if other == "ends it":
        with pytest.raises(ActionError, match="ended at"):
            actions.change_silence("s1", 3 * HOUR, "ben")
    else:
        actions.change_silence("s1", 3 * HOUR, "ben")
    found = Silences(store).get("s1")
    assert found is not None
    by, ends_at, revision = ("jo", AT, 1) if other == "ends it" else ("ben", AT + 3 * HOUR, 2)
    assert (found.changed_by, found.ends_at, found.revision) == (by, ends_at, revision)


def test_of_two_forms_of_a_silence_the_later_one_counts_and_of_equal_ones_the_sooner_end() -> None:
    """As records of Kafka's are put back: those of a version that counted no ends have revision 0."""
    first, ended = _silence(), _silence(ends_at=AT)
    longer = _silence(ends_at=AT + 2 * HOUR, revision=1)
    assert longer.follows(first)
    assert not first.follows(longer)
    assert ended.follows(first)
    assert not first.follows(first)
    assert _silence(ends_at=AT, revision=2).follows(longer)


def test_forms_take_a_length_a_time_in_a_zone_or_one_of_the_usual_lengths(
    served: Any, put: Callable[..., Alert], form: Callable[..., httpx.Response]
) -> None:
    alert, soon = put(), datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(days=2)
    until = {"minutes": "until", "until": f"{soon.astimezone(ZoneInfo('Asia/Tokyo')):{NAIVE}}", "zone": "Asia/Tokyo"}
    ends = {"usual": {"minutes": "240"}, "own": {"minutes": "length", "length": "90m"}, "time": until}
    for name, end in ends.items():
        assert form("/silences", matchers="company=JPM", reason=name, **end).status_code == 303
        assert form(f"/alerts/{alert.id}/silence", reason=name, **end).status_code == 303
    made = {(each.reason, len(each.matchers[0].name)): each for each in Silences(served.redis).all()}
    for what in (len("company"), len("series")):
        assert made["usual", what].ends_at - made["usual", what].starts_at == 4 * HOUR
        assert made["own", what].ends_at - made["own", what].starts_at == 1.5 * HOUR
        assert made["time", what].ends_at == soon
    one = made["usual", len("company")]
    page = served.client.get("/silences").text
    assert f'action="/silences/{one.id}/change"' in page
    answer = form(f"/silences/{one.id}/change", next=f"/alerts/{alert.id}", **until)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/alerts/{alert.id}")
    changed = Silences(served.redis).get(one.id)
    assert changed is not None
    assert changed.ends_at == soon
    wrong = {**until, "until": "2099-03-29T01:30", "zone": "Europe/London"}
    for path in ("/silences", f"/alerts/{alert.id}/silence", f"/silences/{one.id}/change"):
        answer = form(path, matchers="company=JPM", reason="x", **wrong)
        assert answer.status_code == 422
        assert "clocks in Europe/London never show 2099-03-29 01:30" in answer.text
    form(f"/silences/{one.id}/expire")
    answer = form(f"/silences/{one.id}/change", **until)
    assert (answer.status_code, "ended at" in answer.text) == (409, True)


def test_an_alert_shows_the_silence_that_lies_over_it_last(served: Any, put: Callable[..., Alert]) -> None:
    alert = put()
    first = served.client.post("/api/v1/silences", json=BODY | {"minutes": 60}).json()["id"]
    served.client.post("/api/v1/silences", json=BODY | {"minutes": 300, "reason": "longer"})
    page = served.client.get(f"/alerts/{alert.id}").text
    assert "longer (jo)" in page
    assert first not in page
    served.client.patch(f"/api/v1/silences/{first}", json={"length": "6h"})
    page = served.client.get(f"/alerts/{alert.id}").text
    assert "known (jo, end set by jo)" in page
    assert f'action="/silences/{first}/change"' in page
    assert "/change" not in served.reader.get(f"/alerts/{alert.id}").text
