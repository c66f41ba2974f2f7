"""When a silence is to end, as people say it: after a length, or at a time by the clocks of a zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta

from alerts.time_intervals import zone_of

End = timedelta | datetime
"""A length from a beginning that is known elsewhere, or a time."""

_PART = re.compile(r"([0-9]+)\s*([mhdw])\s*")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_MOST = 60
"""Characters of a length or a time; none that means something has more."""


class EndError(ValueError):
    """What was said is no length or no time; the message says why, in plain words."""


def length_of(text: str) -> timedelta:
    """Return a length in minutes, hours, days or weeks.

    >>> length_of("90m") == length_of("1h 30M"), length_of("1d12h")
    (True, datetime.timedelta(days=1, seconds=43200))

    Raises:
        EndError: it is none, or longer than any time lasts.
    """
    plain = text.strip().lower()
    parts = _PART.findall(plain) if len(plain) <= _MOST else []
    if not parts or _PART.sub("", plain):
        raise EndError(f"{text[:_MOST]!r} is no length; write one as 90m, 2h, 3d or 1d12h")
    try:
        return sum((int(number) * _UNITS[unit] for number, unit in parts), timedelta())
    except OverflowError:
        raise EndError(f"{text[:_MOST]!r} is too long") from None


def time_of(text: str) -> datetime | time:
    """Return a time in ISO 8601, with or without an offset, or one of the clock alone.

    >>> time_of("17:30"), time_of("2026-12-02 09:00")
    (datetime.time(17, 30), datetime.datetime(2026, 12, 2, 9, 0))

    Raises:
        EndError: it is none.
    """
    plain = text.strip()
    try:
        if re.fullmatch(r"[0-9]{2}:[0-9]{2}", plain):
            return time.fromisoformat(plain)
        return datetime.fromisoformat(plain)
    except ValueError:
        example = "write one as 17:30, 2026-12-02 09:00 or 2026-12-02T09:00+01:00"
        raise EndError(f"{text[:_MOST]!r} is no time; {example}" if plain else f"no time is given; {example}") from None


def instant(at: datetime | time, zone: str, now: datetime) -> datetime:
    """Return in UTC when it is; `zone` names whose clocks a time without an offset is by, one without a day today.

    >>> instant(time_of("17:30"), "Europe/Paris", datetime(2026, 12, 2, 9, tzinfo=UTC)).isoformat()
    '2026-12-02T16:30:00+00:00'

    Raises:
        EndError: there is no such zone, or those clocks do not show that time just once.
    """
    if isinstance(at, datetime) and at.tzinfo is not None:
        return _utc(at)
    if not zone:
        raise EndError("the time needs a zone, as Europe/London or UTC")
    try:
        clocks = zone_of(zone[:_MOST])
    except ValueError as exc:
        raise EndError(str(exc)) from None
    wall = at if isinstance(at, datetime) else datetime.combine(now.astimezone(clocks).date(), at)
    # Where clocks are put forward the first reading is the later one (PEP 495).
    first, second = (_utc(wall.replace(tzinfo=clocks, fold=fold)) for fold in (0, 1))
    if first > second:
        raise EndError(f"clocks in {zone} never show {wall:%Y-%m-%d %H:%M}: they are put forward then")
    if first < second:
        both = f"{first:%Y-%m-%d %H:%M} or {second:%Y-%m-%d %H:%M}"  # in UTC it may be another day
        raise EndError(f"clocks in {zone} show {wall:%Y-%m-%d %H:%M} twice: say which in the zone UTC, {both}")
    return first


def after(start: datetime, end: End) -> datetime:
    """Return when it is to end.

    Raises:
        OverflowError: that is after the year 9999.
    """
    return start + end if isinstance(end, timedelta) else end


def _utc(at: datetime) -> datetime:
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise EndError(f"{at:%Y-%m-%d} is beyond the years 1 to 9999 in UTC") from None
