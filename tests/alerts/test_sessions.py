"""The clock of an exchange: phases of its days, holidays, early closes, summer time, and what no calendar knows."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.sessions import (
    AFTER_HOURS,
    AFTERNOON,
    EVENING,
    MORNING,
    NIGHT,
    PHASES,
    PRE_MARKET,
    ExchangeError,
    Sessions,
    Slot,
)

NEW_YORK = ZoneInfo("America/New_York")
XNYS = Sessions("XNYS")
UTC_CLOCK = Sessions()


def _at(year: int, month: int, day: int, hour: int, sessions: Sessions = XNYS, zone: str = "America/New_York") -> Slot:
    return sessions.slot(int(datetime(year, month, day, hour, tzinfo=ZoneInfo(zone)).timestamp()) // 3600)


def test_a_day_with_a_session_has_its_phases() -> None:
    phases = [_at(2026, 3, 4, hour).phase for hour in (1, 5, 9, 12, 13, 15, 16, 19, 21)]
    expected = [NIGHT, PRE_MARKET, MORNING, MORNING, AFTERNOON, AFTERNOON, AFTER_HOURS, AFTER_HOURS, EVENING]
    assert phases == expected  # the hour from 9 to 10 is of the session, which opens at half past


@pytest.mark.parametrize("day", [(2026, 3, 6), (2026, 3, 9), (2026, 10, 30), (2026, 11, 2)])
def test_summer_time_moves_the_hours_of_unix_time_not_those_of_the_market(day: tuple[int, int, int]) -> None:
    slots = [_at(*day, hour) for hour in range(24)]
    assert [slot.hour for slot in slots] == list(range(24))
    assert [slot.phase for slot in slots].index(MORNING) == 9
    opens = int(datetime(*day, 9, 30, tzinfo=NEW_YORK).astimezone(UTC).timestamp())
    assert XNYS.slot(opens // 3600).phase == MORNING


@pytest.mark.parametrize("day", [(2026, 5, 25), (2026, 11, 26), (2026, 4, 3), (2012, 10, 29)])
def test_a_holiday_is_a_day_of_the_weekend(day: tuple[int, int, int]) -> None:
    assert datetime(*day, tzinfo=UTC).weekday() < 5
    sunday = [_at(2026, 5, 24, hour) for hour in range(24)]
    assert [_at(*day, hour) for hour in range(24)] == sunday
    assert {slot.day for slot in sunday} == {6}


def test_after_an_early_close_the_clock_goes_on_as_after_a_usual_one() -> None:
    early = [_at(2026, 11, 27, hour) for hour in range(24)]  # closes at 13:00
    usual = [_at(2026, 11, 20, hour) for hour in range(24)]
    assert early[:10] == usual[:10]
    assert early[13] == usual[16]
    assert early[14] == usual[17]
    assert early[23].hour == 23


def test_where_friday_and_saturday_are_off_a_holiday_is_like_saturday() -> None:
    riyadh = Sessions("XSAU")
    eid = [_at(2024, 4, 9, hour, riyadh, "Asia/Riyadh") for hour in range(24)]  # a Tuesday
    saturday = [_at(2024, 4, 20, hour, riyadh, "Asia/Riyadh") for hour in range(24)]
    assert eid == saturday
    assert _at(2024, 4, 21, 12, riyadh, "Asia/Riyadh").day == 6  # a Sunday, with a session


def test_a_market_that_trades_over_midnight_has_days_but_no_phases_of_its_own() -> None:
    futures = Sessions("CMES")
    slots = [_at(2026, 3, 4, hour, futures, "America/Chicago") for hour in range(24)]
    assert [slot.phase for slot in slots] == [hour // 4 for hour in range(24)]


def test_beyond_what_the_library_knows_all_weeks_are_usual(caplog: pytest.LogCaptureFixture) -> None:
    mumbai = Sessions("XBOM")
    slot = _at(2045, 1, 26, 12, mumbai, "Asia/Kolkata")  # a Thursday; Republic Day, if it were known
    assert (slot.day, slot.phase) == (3, MORNING)
    assert "holidays are not known" in caplog.text


def test_without_an_exchange_it_is_utc_in_four_hours_each() -> None:
    slot = UTC_CLOCK.slot(int(datetime(2026, 5, 25, 14, tzinfo=UTC).timestamp()) // 3600)
    assert slot == Slot(14, 0, 3)


def test_an_exchange_without_a_calendar_is_refused() -> None:
    with pytest.raises(ExchangeError, match="'XXXX' is known"):
        Sessions("XXXX")


@settings(deadline=None)  # a year is read at its first hour
@given(st.integers(min_value=0, max_value=2**31 // 3600))
def test_any_hour_has_a_slot(hour: int) -> None:
    for sessions in (XNYS, UTC_CLOCK):
        slot = sessions.slot(hour)
        assert 0 <= slot.hour < 24
        assert 0 <= slot.day < 7
        assert 0 <= slot.phase < PHASES


def test_without_an_exchange_no_calendar_is_loaded() -> None:
    code = "import sys, alerts.surge, alerts.sessions; alerts.sessions.Sessions(); print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
