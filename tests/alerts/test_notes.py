"""Notes: what people write on an alert stands in its history, changes nothing, and is no news to any receiver."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
import redis

from alerts.actions import MAX_STEPS, ActionError
from alerts.alert import Alert
from alerts.audit import Audit, Entry, entry
from alerts.life import last_told
from alerts.matchers import parse
from alerts.notes import MAX_NOTE, MAX_NOTES
from alerts.silences import Silence
from alerts.store import LOG
from alerts.told_book import ALERTS
from tests.alerts.test_dispatch import NAMES, Office

HOSTILE = "\x1b]0;x\x07 called\u202e the bank \ud800\r\n\r\n\u2028<b>@channel\x00"


@pytest.fixture
def office(store: redis.Redis, alert: Alert) -> Office:
    made = Office(store, alert)
    made.put("A")
    made.step()
    assert len(made.news()) == 2
    return made


def life(office: Office) -> dict[str, object]:
    view = office.store.view("A")
    assert view is not None
    return {**msgspec.structs.asdict(view.life), "transitions": 0}


@pytest.mark.parametrize("state", ["firing", "acknowledged", "resolved"])
def test_a_note_stands_in_the_history_and_changes_nothing(office: Office, state: str) -> None:
    if state == "acknowledged":
        office.actions.acknowledge("A", "ben")
    elif state == "resolved":
        office.actions.resolve("A", "ben")
    office.step()
    office.news()
    before = life(office)
    office.now_s += 60
    note = entry("anna", "note", target="A", detail="they know")
    step = office.actions.annotate("A", "anna", "they know", note=note)
    assert (step.event, step.actor, step.reason, step.state) == ("noted", "anna", "they know", state)
    assert step.at == datetime.fromtimestamp(office.now_s, UTC)
    assert life(office) == before
    assert office.store.log(1) == [step]
    assert [msgspec.convert(each, Entry, from_attributes=True) for each in Audit(office.redis).last(1)] == [note]
    office.step(10_000)
    assert office.news() == []


def test_text_is_cleaned_and_bounded(office: Office) -> None:
    assert office.actions.annotate("A", "anna", HOSTILE).reason == "]0;x called the bank\n<b>@channel"
    for text in ("", " \n", "\x1b\u202e", "\u200d", "\u3164 \ufe0f", "x" * (MAX_NOTE + 1)):
        with pytest.raises(ActionError, match="a note has 1 to 500 characters"):
            office.actions.annotate("A", "anna", text)
    assert office.actions.annotate("A", "anna", "x" * MAX_NOTE + "\r\n\x00").reason == "x" * MAX_NOTE
    with pytest.raises(ActionError, match="no alert B"):
        office.actions.annotate("B", "anna", "x")
    with pytest.raises(ActionError, match="by hand"):
        office.actions.annotate("A", "newsquake", "x")


def test_under_one_key_it_is_written_once(office: Office) -> None:
    first = office.actions.annotate("A", "anna", "they know", key="click")
    assert office.actions.annotate("A", "anna", "they know", key="click") == first
    assert sum(step.event == "noted" for step in office.store.log()) == 1


def test_sent_twice_it_is_written_once_and_after_a_while_anew(office: Office) -> None:
    first = office.actions.annotate("A", "anna", "no news", note=entry("anna", "note", target="A"))
    office.now_s += 240
    assert office.actions.annotate("A", "anna", "no  news", note=entry("anna", "note", target="A")) == first
    assert len(Audit(office.redis).last()) == 1
    assert office.actions.annotate("A", "ben", "no news") != first
    office.now_s += 240
    assert office.actions.annotate("A", "anna", "no news") != first
    assert sum(step.event == "noted" for step in office.store.log()) == 3


def test_notes_are_bounded_in_number_and_take_no_other_steps(office: Office) -> None:
    for number in range(MAX_NOTES):
        office.actions.annotate("A", "anna", f"note {number}")
    with pytest.raises(ActionError, match="has 50 notes; there is no room for more"):
        office.actions.annotate("A", "anna", "one more")
    for _ in range(MAX_STEPS // 2):
        office.actions.acknowledge("A", "anna")
        office.actions.unacknowledge("A", "anna")
    assert life(office)["state"] == "firing"


def test_a_note_stops_no_clock_and_starts_none(office: Office) -> None:
    before = life(office)["unheard_since"]
    office.now_s += 600
    office.actions.annotate("A", "anna", "they know")
    assert life(office)["unheard_since"] == before == datetime.fromtimestamp(office.now_s - 600, UTC)


@pytest.mark.parametrize("last", ["noted", "unsilenced"])
def test_where_the_log_was_cut_what_went_before_a_note_or_a_silence_is_told(office: Office, last: str) -> None:
    office.actions.acknowledge("A", "ben", "mine")
    at = datetime.fromtimestamp(office.now_s, UTC)
    silence = Silence(
        id="s", matchers=parse("company=A"), starts_at=at, ends_at=at + timedelta(hours=1), author="ben", reason="r",
        created_at=at,
    )  # fmt: skip
    if last == "noted":
        office.actions.annotate("A", "anna", "they know")
    else:
        office.actions.silence(silence, "ben")
        office.actions.expire_silence("s", "ben")
    office.redis.xtrim(LOG, maxlen=1, approximate=False)
    office.start()
    office.step(60)
    assert office.news() == [(name, "acknowledged", "A") for name in NAMES]
    assert {note.by["A"].actor for note in office.got[-2:]} == {"ben"}
    office.actions.resolve("A", "ben")
    office.actions.annotate("A", "anna", "a mistake of theirs")
    office.put("B")
    office.redis.xtrim(LOG, maxlen=1, approximate=False)
    office.start()
    office.step(60)
    assert [told for told in office.news() if told[2] == "A"] == [(name, "resolved", "A") for name in NAMES]
    view = office.store.view("A")
    assert view is not None
    assert last_told(view.transitions).event == "resolved"


@pytest.mark.parametrize("noted", [False, True])
def test_what_is_in_doubt_is_what_went_before_a_note(office: Office, noted: bool) -> None:
    office.actions.acknowledge("A", "ben")
    if noted:
        office.actions.annotate("A", "anna", "they know")
    office.step()
    office.news()
    office.got.clear()
    office.redis.hset(ALERTS, "A", "rubbish")  # whether that was told is not known any more
    office.start()
    office.step(60)
    assert office.news() == [(name, "acknowledged", "A") for name in NAMES]
