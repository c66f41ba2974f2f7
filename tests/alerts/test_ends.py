"""Lengths and times as people say them, and clocks that are put forward and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.ends import EndError, after, instant, length_of, time_of

NOW = datetime(2026, 3, 28, 22, 45, tzinfo=UTC)
UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
ZONES = ("UTC", "Europe/London", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia")

zones = st.sampled_from(ZONES)
times = st.integers(0, 37 * 525_960).map(lambda minute: datetime(2000, 1, 1, tzinfo=UTC) + timedelta(minutes=minute))


def at(text: str, zone: str = "") -> datetime:
    return instant(time_of(text), zone, NOW)


def shows(zone: str, wall: datetime) -> list[datetime]:
    """Return when clocks show that time, whatever its own zone is, found by looking at them."""
    near = [wall + timedelta(minutes=15 * n) for n in range(-4 * 26, 4 * 26 + 1)]
    return [each for each in near if each.astimezone(ZoneInfo(zone)).replace(tzinfo=UTC) == wall]


@given(st.lists(st.tuples(st.integers(0, 9_999), st.sampled_from([*UNITS])), min_size=1, max_size=4), st.booleans())
def test_a_length_is_the_sum_of_its_parts(parts: list[tuple[int, str]], spaced: bool) -> None:
    text = (" " if spaced else "").join(f"{number}{unit}" for number, unit in parts)
    assert length_of(text) == length_of(text.upper()) == sum((n * UNITS[unit] for n, unit in parts), timedelta())


@pytest.mark.parametrize("text", ["", "soon", "90", "m", "-1h", "1.5h", "1h30", "1y", "९m", "1" * 70 + "m", "1h\0"])
def test_what_is_no_length_is_said_with_examples(text: str) -> None:
    with pytest.raises(EndError, match="is no length; write one as 90m, 2h, 3d or 1d12h"):
        length_of(text)


def test_a_length_beyond_all_times_is_too_long() -> None:
    with pytest.raises(EndError, match="too long"):
        length_of("9" * 20 + "w")
    with pytest.raises(OverflowError):
        after(NOW, length_of("999999w"))


@given(zones, times)
def test_a_local_time_is_when_clocks_show_it_and_refused_where_they_never_do_or_twice(
    zone: str, wall: datetime
) -> None:
    known = shows(zone, wall)
    try:
        found = at(f"{wall:%Y-%m-%dT%H:%M}", zone)
    except EndError as exc:
        assert len(known) != 1
        assert ("never" if not known else "twice") in str(exc)
    else:
        assert known == [found]


@given(zones, times)
def test_what_clocks_show_at_a_time_is_that_time_unless_they_show_it_twice(zone: str, moment: datetime) -> None:
    wall = moment.astimezone(ZoneInfo(zone))
    try:
        assert at(f"{wall:%Y-%m-%d %H:%M}", zone) == moment
    except EndError as exc:
        assert "twice" in str(exc)
        assert f"{moment:%Y-%m-%d %H:%M}" in str(exc)  # which names the time that is meant


@pytest.mark.parametrize(
    ("text", "zone", "found"),
    [
        ("17:30", "UTC", "2026-03-28T17:30:00+00:00"),
        ("17:30", "Asia/Tokyo", "2026-03-29T08:30:00+00:00"),  # where it is the 29th
        ("2026-03-29 02:30", "Europe/London", "2026-03-29T01:30:00+00:00"),
        ("2026-12-02T09:00+01:00", "", "2026-12-02T08:00:00+00:00"),
        ("2026-12-02T09:00Z", "Europe/London", "2026-12-02T09:00:00+00:00"),
        (" 2026-12-02 ", "UTC", "2026-12-02T00:00:00+00:00"),
    ],
)
def test_a_time_may_have_an_offset_or_be_by_the_clocks_of_a_zone(text: str, zone: str, found: str) -> None:
    assert at(text, zone).isoformat() == found


@pytest.mark.parametrize(
    ("text", "zone", "problem"),
    [
        ("", "UTC", "no time is given; write one as 17:30"),
        ("at noon", "UTC", "'at noon' is no time; write one as 17:30"),
        ("25:00", "UTC", "is no time"),
        ("2026-02-30 09:00", "UTC", "is no time"),
        ("17:30", "", "needs a zone, as Europe/London or UTC"),
        ("17:30", "Europe/Lundon", "'Europe/Lundon' is no time zone.*Europe/London"),
        ("17:30", "../../etc/passwd", "is no time zone"),
        ("17:30", "Europe", "is no time zone"),
        ("17:30", "x" * 10_000, "x{60}' is no time zone"),
        ("2026-03-29 01:30", "Europe/London", "never show 2026-03-29 01:30: they are put forward"),
        ("2026-10-25 01:30", "Europe/London", "twice: say which in the zone UTC, 2026-10-25 00:30 or 2026-10-25 01:30"),
        ("2026-04-05 02:30", "Australia/Sydney", "UTC, 2026-04-04 15:30 or 2026-04-04 16:30"),  # the day before, there
        ("2011-12-30 12:00", "Pacific/Apia", "never show"),  # a day that Samoa left out
        ("0001-01-01T00:00+14:00", "", "beyond the years 1 to 9999"),
        ("9999-12-31 23:00", "America/New_York", "beyond the years 1 to 9999"),
    ],
)
def test_what_is_no_time_is_said_with_the_reason(text: str, zone: str, problem: str) -> None:
    with pytest.raises(EndError, match=problem):
        at(text, zone)
