"""Times of the week and year, written as in Alertmanager's `time_intervals`, in a zone's own wall-clock time."""

from __future__ import annotations

import calendar
import re
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from alerts.spelling import near

_CLOCK = re.compile(r"([01]\d|2[0-4]):([0-5]\d)")
_WEEKDAYS = tuple(day.casefold() for day in calendar.day_name)
_MONTHS = tuple(month.casefold() for month in calendar.month_name)


def _clock(value: Any) -> Any:
    """Return the minute of the day of `HH:MM`."""
    if isinstance(value, int):
        return value
    found = _CLOCK.fullmatch(str(value))
    minute = 60 * int(found[1]) + int(found[2]) if found else 1_441
    if minute > 1_440:
        raise ValueError("must be a time of day as HH:MM, from 00:00 to 24:00")
    return minute


def _ranges(value: Any) -> list[tuple[str, str]]:
    """Return the two ends of each of `a` and `a:b`."""
    if not isinstance(value, list | tuple):
        value = [value]
    ends = []
    for each in value:
        first, _, last = str(each).partition(":")
        ends.append((first.strip(), last.strip() or first.strip()))
    return ends


def _named(names: Sequence[str], what: str) -> BeforeValidator:
    """Read ranges of names (or of numbers that stand for them), which may go round the end: `friday:monday`."""

    def number(text: str) -> int:
        if text.casefold() in names and text:
            return names.index(text.casefold())
        if text.isdecimal() and names is _MONTHS and 1 <= int(text) <= 12:
            return int(text)
        raise ValueError(f"{text!r} is no {what}{near(text, [name for name in names if name])}")

    def read(value: Any) -> frozenset[int]:
        if isinstance(value, frozenset):
            return value
        found = set[int]()
        for first, last in _ranges(value):
            start, end = number(first), number(last)
            over = range(start, len(names)) if start > end else range(start, end + 1)
            found |= {*over, *(range(bool(not names[0]), end + 1) if start > end else ())}
        return frozenset(found)

    return BeforeValidator(read)


def _numbered(low: int, high: int, what: str) -> BeforeValidator:
    def read(value: Any) -> tuple[tuple[int, int], ...]:
        found = []
        for ends in _ranges(value) if not isinstance(value, tuple) else value:
            try:
                start, end = (int(each) for each in ends)
            except ValueError:
                start, end = 0, -1
            if not (low <= start <= high and low <= end <= high) or 0 in (start, end) or start * end < 0 or start > end:
                raise ValueError(f"{':'.join(map(str, ends))!r} must be {what}, or two of them as first:last")
            found.append((start, end))
        return tuple(found)

    return BeforeValidator(read)


_names = cache(available_timezones)  # which reads some 600 files


def zone_of(name: str) -> ZoneInfo:
    """Return a zone by its name in the IANA's database.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in _names():
        raise ValueError(f"{name!r} is no time zone{near(name, _names()) or '; as in Europe/London or UTC'}")
    return ZoneInfo(name)


def _zone(name: str) -> str:
    zone_of(name)
    return name


class TimeOfDay(BaseModel, frozen=True, extra="forbid"):
    """From `start_time` up to, but without, `end_time`."""

    start_time: Annotated[int, BeforeValidator(_clock)]
    end_time: Annotated[int, BeforeValidator(_clock)]

    @model_validator(mode="after")
    def _in_order(self) -> TimeOfDay:
        if self.start_time >= self.end_time:
            raise ValueError(
                "start_time must be before end_time; write a night as two, one up to 24:00, one from 00:00"
            )
        return self


class TimeInterval(BaseModel, frozen=True, extra="forbid"):
    """Holds when each of the fields that are given does; a field does when one of its entries does."""

    times: tuple[TimeOfDay, ...] = ()
    weekdays: Annotated[frozenset[int], _named(_WEEKDAYS, "day of the week")] = frozenset()
    days_of_month: Annotated[
        tuple[tuple[int, int], ...], _numbered(-31, 31, "a day from 1 to 31, or -1 (the last) to -31")
    ] = ()
    months: Annotated[frozenset[int], _named(_MONTHS, "month")] = frozenset()
    years: Annotated[tuple[tuple[int, int], ...], _numbered(1970, 9999, "a year from 1970 to 9999")] = ()
    location: Annotated[str, AfterValidator(_zone)] = "UTC"

    def holds(self, minute: int) -> bool:
        """Say whether a minute (Unix time // 60) is in it."""
        at = datetime.fromtimestamp(minute * 60, ZoneInfo(self.location))
        clock, length = at.hour * 60 + at.minute, calendar.monthrange(at.year, at.month)[1]
        days = (
            (max(1, first + length + 1), last + length + 1) if first < 0 else (first, last)
            for first, last in self.days_of_month
        )
        return (
            (not self.times or any(each.start_time <= clock < each.end_time for each in self.times))
            and (not self.weekdays or at.weekday() in self.weekdays)
            and (not self.days_of_month or any(first <= at.day <= last for first, last in days))
            and (not self.months or at.month in self.months)
            and (not self.years or any(first <= at.year <= last for first, last in self.years))
        )


class NamedIntervals(BaseModel, frozen=True, extra="forbid"):
    """Intervals under a name, by which rules speak of them; it holds when one of them does."""

    name: str = Field(min_length=1, max_length=128)
    time_intervals: tuple[TimeInterval, ...] = Field(min_length=1)

    def holds(self, minute: int) -> bool:
        """Say whether a minute (Unix time // 60) is in one of them."""
        return any(each.holds(minute) for each in self.time_intervals)
