"""Alerts against a list of known events: precision, sensitivity, time to detect, false alerts, with their intervals."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from scipy.stats import binomtest, chi2

from alerts.alert import Alert, at_end_of
from alerts.series import MARKET
from ingest.sources.replay import RowError, parse_time
from stream.history import HistoryError

_EARLY = timedelta(hours=1)  # lists give the hour of the announcement, and news may be before it
_RESAMPLES = 2_000


class Known(msgspec.Struct, frozen=True):
    """An event; `series` is empty where any alert may be about it."""

    time: datetime
    name: str
    series: str = ""


class Estimate(msgspec.Struct, frozen=True):
    """A value with its interval of 95 %; None where nothing can be said."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Found(msgspec.Struct, frozen=True):
    """An event and the first alert about it, if any; `delay_min` is below 0 when that fired before the event's time."""

    event: Known
    alert: str | None
    delay_min: float | None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How the alerts stand to the events. `outside` events lie out of the span of the items and do not count."""

    events: int
    outside: int
    unreadable: list[str]
    within_h: float
    found: list[Found]
    matched: frozenset[str]
    precision: Estimate
    sensitivity: Estimate
    delay_min: Estimate
    false_a_week: Estimate


def read_events(file: Path) -> tuple[list[Known], list[str]]:
    """Return the events of a CSV (header) or JSONL file with `time`, `name` and perhaps `series`, and what was wrong.

    A `series` may be a company alone: `AAPL` stands for `company=AAPL`.

    Raises:
        HistoryError: the file cannot be read, or holds no event.
    """
    events, wrong = [], []
    try:
        for number, row in _rows(file):
            try:
                if isinstance(row, Exception):
                    raise row
                at, name, series = (str(row.get(field) or "").strip() for field in ("time", "name", "series"))
                if series and "=" not in series and series != MARKET:
                    series = f"company={series.lstrip('$').upper()}"
                events.append(Known(parse_time(at), name[:200] or series or at, series[:400]))
            except (RowError, msgspec.DecodeError, UnicodeDecodeError) as exc:
                wrong.append(f"row {number}: {exc}")
    except (OSError, csv.Error, UnicodeDecodeError) as exc:
        raise HistoryError(f"the events in {file} cannot be read: {exc}") from exc
    if not events:
        raise HistoryError(f"{file} holds no event with a time; {'; '.join(wrong[:3]) or 'it has no rows'}")
    return sorted(events, key=lambda event: event.time), wrong


def judge(
    alerts: Sequence[Alert],
    events: Sequence[Known],
    unreadable: list[str],
    *,
    first: int,
    last: int,
    within_h: float,
) -> Verdict:
    """Compare. An alert is about an event when it fired from an hour before to `within_h` hours after it and names its
    series, a part of it, or has it in half of the stories shown.

    Args:
        alerts: all that fired.
        events: by time.
        unreadable: what was wrong with the list.
        first: minute (Unix time // 60) of the first item.
        last: of the last item.
        within_h: hours.
    """  # noqa: D205 - one sentence
    begin, end = at_end_of(first - 1), at_end_of(last)
    inside = [event for event in events if begin <= event.time <= end]
    within = timedelta(hours=within_h)
    found, matched = [], set[str]()
    for event in inside:
        mine = [
            alert
            for alert in alerts
            if event.time - _EARLY <= _told_at(alert) <= event.time + within and is_about(alert, event.series)
        ]
        matched |= {alert.id for alert in mine}
        delay = (min(map(_told_at, mine)) - event.time).total_seconds() / 60 if mine else None
        found.append(Found(event, mine[0].id if mine else None, delay))
    delays = [each.delay_min for each in found if each.delay_min is not None]
    return Verdict(
        events=len(inside),
        outside=len(events) - len(inside),
        unreadable=unreadable,
        within_h=within_h,
        found=found,
        matched=frozenset(matched),
        precision=proportion(len(matched), len(alerts)),
        sensitivity=proportion(len(delays), len(inside)),
        delay_min=_median(delays),
        false_a_week=rate(len(alerts) - len(matched), (last - first + 1) / 10_080),
    )


def _told_at(alert: Alert) -> datetime:
    """When the alert named its series: one that moved did so later than it fired."""
    return alert.moved_at or alert.started_at


def is_about(alert: Alert, series: str) -> bool:
    """Say whether an alert is about a series; about an empty one each is."""
    if series in ("", alert.series):
        return True
    named = [alert.series, *(also.series for also in alert.also)]
    if any(series == name or series in name.split(";") for name in named):
        return True
    kind, _, value = series.partition("=")
    if kind == "company" and f"theme=${value}" in named:
        return True
    told = sum(kind == "company" and value in story.companies for story in alert.stories)
    return told > 0 and told * 2 >= len(alert.stories)


def proportion(hits: int, of: int) -> Estimate:
    """Return a share with Wilson's interval (1927).

    >>> found = proportion(8, 10)
    >>> found.value, round(found.low, 3), round(found.high, 3)
    (0.8, 0.49, 0.943)
    """
    if not of:
        return Estimate(None)
    interval = binomtest(hits, of).proportion_ci(method="wilson")
    return Estimate(hits / of, float(interval.low), float(interval.high))


def rate(count: int, spans: float) -> Estimate:
    """Return a count per span with Garwood's exact Poisson interval (1936)."""
    low = float(chi2.ppf(0.025, 2 * count)) / 2 if count else 0.0
    return Estimate(count / spans, low / spans, float(chi2.ppf(0.975, 2 * count + 2)) / 2 / spans)


def _median(values: Sequence[float]) -> Estimate:
    """The median with the percentile interval of the bootstrap (Efron 1979), the same at each run."""
    if not values:
        return Estimate(None)
    drawn = np.random.default_rng(0).choice(np.array(values), (_RESAMPLES, len(values)))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    return Estimate(float(np.median(values)), float(low), float(high))


def _rows(file: Path) -> Iterator[tuple[int, dict[str, Any] | Exception]]:
    if file.name.lower().endswith(".csv"):
        with file.open(encoding="utf-8-sig", newline="") as text:
            yield from enumerate(csv.DictReader(text), 1)
        return
    with file.open("rb") as source:
        for number, line in enumerate(source, 1):
            if line.strip():
                try:
                    yield number, msgspec.json.decode(line, type=dict[str, Any])
                except (msgspec.DecodeError, RecursionError) as exc:
                    yield number, msgspec.DecodeError(str(exc))
