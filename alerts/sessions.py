"""What time it is for a market: the hour on its clock, the day of its week, the phase of its day.

On a day with a session: night, pre-market (5½ h before the open), the session's halves, after hours (4 h), evening. On
other days, and without an exchange, four hours each. A holiday on a weekday is a day of the weekend. After an early
close the clock goes on as after a usual one. Hours are those of Unix time (seconds // 3600); in time zones that are off
by half an hour, and where a session begins at half past, the middle of the hour decides.

Days come from exchange_calendars, a year at a time, and are kept. It is imported with the first exchange, not before.
"""

from __future__ import annotations

import logging
import warnings
from calendar import isleap
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Any, NamedTuple

log = logging.getLogger(__name__)

PHASES = 6
NIGHT, PRE_MARKET, MORNING, AFTERNOON, AFTER_HOURS, EVENING = range(PHASES)
_PRE_MARKET_S, _AFTER_HOURS_S = 5.5 * 3600, 4 * 3600
_LONGEST_S = 16 * 3600  # a session that lasts longer, or over midnight, has no phases that differ
_WEEK = range(7)
_MIDNIGHT = time()
_SHOWN = 200  # characters of an error of the library, which can list a thousand dates


class Slot(NamedTuple):
    """Hour 0-23, day 0 (Monday) to 6 and phase 0-5 of a clock's hour."""

    hour: int
    day: int
    phase: int


class ExchangeError(ValueError):
    """There is no calendar of such an exchange."""


@dataclass(frozen=True)
class _Year:
    """Sessions by date as Unix seconds; the seconds of the day at which one usually opens and closes; days off."""

    sessions: dict[date, tuple[float, float]]
    opens: timedelta
    closes: timedelta
    rest: frozenset[int]


class _Exchange:
    """Years of one exchange, as the library knows them."""

    def __init__(self, name: str) -> None:
        import exchange_calendars  # brings pandas: 85 MB and a third of a second

        if name not in exchange_calendars.get_calendar_names():
            raise ExchangeError(f"no calendar of the exchange {name!r} is known; MICs such as XNYS are")
        self._name, self._get = name, exchange_calendars.get_calendar
        try:
            self.zone: tzinfo = self._calendar().tz
        except ValueError as exc:
            raise ExchangeError(f"the calendar of {name} cannot be made: {str(exc)[:_SHOWN]}") from exc
        self.year = lru_cache(maxsize=8)(self._year)

    def _calendar(self, **span: str) -> Any:
        with warnings.catch_warnings():  # what the library itself calls in pandas
            warnings.simplefilter("ignore", DeprecationWarning)
            return self._get(self._name, **span)

    def _year(self, year: int) -> _Year:
        try:
            calendar = self._calendar(start=f"{year}-01-01", end=f"{year}-12-31")
        except ValueError as exc:
            return self._guessed(year, exc)
        spans = zip(calendar.sessions, calendar.opens, calendar.closes, strict=True)
        sessions = {day.date(): (opens.timestamp(), closes.timestamp()) for day, opens, closes in spans}
        return _Year(
            sessions=sessions,
            opens=self._usual({day: opens for day, (opens, _) in sessions.items()}),
            closes=self._usual({day: closes for day, (_, closes) in sessions.items()}),
            rest=frozenset(_WEEK) - {day.weekday() for day in sessions},
        )

    def _usual(self, times: dict[date, float]) -> timedelta:
        since = (
            datetime.fromtimestamp(at, self.zone).replace(tzinfo=None) - datetime.combine(day, _MIDNIGHT)
            for day, at in times.items()
        )
        return Counter(since).most_common(1)[0][0]

    def _guessed(self, year: int, reason: ValueError) -> _Year:
        """Return a year of which the library knows no holidays: all its weeks are usual ones."""
        calendar = self._calendar()
        known = self.year(min(max(year, calendar.first_session.year + 1), calendar.last_session.year - 1))
        why = str(reason)[:_SHOWN]
        log.warning("%s in %d: holidays are not known (%s); all weeks count as usual", self._name, year, why)
        days = (date(year, 1, 1) + timedelta(number) for number in range(365 + isleap(year)))
        sessions = {
            day: (_at(day, known.opens, self.zone), _at(day, known.closes, self.zone))
            for day in days
            if day.weekday() not in known.rest
        }
        return _Year(sessions, known.opens, known.closes, known.rest)


_exchange = lru_cache(maxsize=8)(_Exchange)  # making one takes half a second


class Sessions:
    """The clock of one exchange, by its market identifier code (ISO 10383); "none" is UTC, with no sessions.

    >>> new_york = Sessions("XNYS")
    >>> memorial_day = new_york.slot(int(datetime(2026, 5, 25, 14, tzinfo=UTC).timestamp()) // 3600)
    >>> (memorial_day.hour, memorial_day.day)
    (10, 6)
    >>> tuesday = new_york.slot(int(datetime(2026, 5, 26, 14, tzinfo=UTC).timestamp()) // 3600)
    >>> (tuesday.hour, tuesday.day, tuesday.phase == MORNING)
    (10, 1, True)
    """

    def __init__(self, exchange: str = "none") -> None:
        """Load the exchange's calendar.

        Raises:
            ExchangeError: there is none.
        """
        self.exchange = exchange
        self._calendar = None if exchange == "none" else _exchange(exchange)
        self._of_day = lru_cache(maxsize=64)(self._slots)

    def slot(self, hour: int) -> Slot:
        """Return the slot of an hour."""
        return self._of_day(hour // 24)[hour % 24]

    def _slots(self, day: int) -> tuple[Slot, ...]:
        middles = [day * 86_400 + hour * 3_600 + 1_800 for hour in range(24)]
        if self._calendar is None:
            local = [datetime.fromtimestamp(at, UTC) for at in middles]
            return tuple(Slot(at.hour, at.weekday(), at.hour // 4) for at in local)
        return tuple(_slot(self._calendar, at) for at in middles)


def _slot(exchange: _Exchange, at: float) -> Slot:
    local = datetime.fromtimestamp(at, exchange.zone)
    today, day, year = local.date(), local.weekday(), exchange.year(local.year)
    if today not in year.sessions:
        return Slot(local.hour, day if day in year.rest else max(year.rest, default=day), local.hour // 4)
    opens, closes = year.sessions[today]
    if closes - opens > _LONGEST_S or datetime.fromtimestamp(opens, exchange.zone).date() != today:
        return Slot(local.hour, day, local.hour // 4)
    late = max(0.0, _at(today, year.closes, exchange.zone) - closes)
    if closes <= at:
        closes, at = closes + late, at + late
    edges = (opens - _PRE_MARKET_S, opens, (opens + closes) / 2, closes, closes + _AFTER_HOURS_S)
    shown = datetime.fromtimestamp(at, exchange.zone)
    return Slot(shown.hour if shown.date() == today else 23, day, sum(at >= edge for edge in edges))


def _at(day: date, since_midnight: timedelta, zone: tzinfo) -> float:
    """Return the Unix seconds at which the clock shows so much."""
    return (datetime.combine(day, _MIDNIGHT) + since_midnight).replace(tzinfo=zone).timestamp()
