"""Pictures of a backtest's report, as SVG that takes the page's colours."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from alerts.alert import Alert, Figures
from alerts.negbin import central_interval, signed_root
from model.report_charts import COLOURS, INK, svg_figure, svg_of
from stream.course import Course
from stream.events import Known

_BINS_MIN = (15, 60, 180, 360, 1_440, 10_080)
_MOST_BINS = 400
_POINTS = 160
_WIDE = 10.5
_BAD = COLOURS[4]


def timeline(course: Course, alerts: Sequence[Alert], events: Sequence[Known], first: int, last: int) -> str:
    """Volume and share of negatives over the whole span, with the alerts and the known events marked."""
    bin_min = next((each for each in _BINS_MIN if (last - first) / each <= _MOST_BINS), _BINS_MIN[-1])
    start = first - first % min(bin_min, 1_440)
    count = (last - start) // bin_min + 1
    rows = course.market(start, bin_min)
    rows = rows[rows[:, 0] < count]
    series = np.zeros((3, count), dtype=np.int64)
    series[:, rows[:, 0]] = rows[:, 1:].T
    negatives, others, _ = series
    x = [_time(start + bin_min * n) for n in range(count + 1)]
    with svg_figure(_WIDE, 4.6, "timeline") as (figure, out):
        volume, share = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (3, 2)})
        volume.stairs(negatives + others, x, fill=True, color=COLOURS[5], alpha=0.35, label="all items, no copies")
        volume.stairs(negatives, x, fill=True, color=_BAD, alpha=0.75, label="negative")
        top = float((negatives + others).max(initial=1)) * 1.15
        for severity, colour in (("warning", COLOURS[1]), ("critical", _BAD)):
            times = [alert.started_at for alert in alerts if alert.severity == severity]
            if times:
                volume.plot(times, [top] * len(times), "v", color=colour, markersize=6, label=f"alert, {severity}")
        if events:
            times = [event.time for event in events]
            volume.plot(times, [top * 1.1] * len(times), "*", color=COLOURS[0], markersize=7, label="known event")
        volume.set(ylabel=f"items in {length(bin_min)}", ylim=(0, top * 1.2))
        total = negatives + others
        with np.errstate(invalid="ignore"):
            shares = np.where(total > 0, negatives / np.maximum(total, 1), np.nan)
            share.stairs(shares, x, color=_BAD)
        most = float(np.nanmax(shares, initial=0.05))
        share.set(ylabel="share of negatives", ylim=(0, min(1.0, 1.25 * most)))
        share.yaxis.set_major_formatter("{x:.0%}")
        share.grid(axis="y", color=INK, alpha=0.15)
        _dates(share)
        figure.legend(loc="outside lower center", ncols=5)
    return svg_of(out)


def weekly(alerts: Sequence[Alert], first: int, last: int) -> str:
    """Alerts by week, from the first item."""
    weeks = (last - first) // 10_080 + 1
    x = [_time(first + 10_080 * n) for n in range(weeks + 1)]
    by = np.zeros((2, weeks), dtype=np.int64)
    for alert in alerts:
        week = min(weeks - 1, int(alert.started_at.timestamp() // 60 - first) // 10_080)
        by[int(alert.severity == "critical"), week] += 1
    with svg_figure(_WIDE, 2.2, "weekly") as (figure, out):
        axes = figure.subplots()
        axes.stairs(by.sum(axis=0), x, fill=True, color=COLOURS[1], label="warning")
        axes.stairs(by[1], x, fill=True, color=_BAD, label="critical")
        axes.set(ylabel="alerts a week")
        axes.yaxis.get_major_locator().set_params(integer=True)
        _dates(axes)
        figure.legend(loc="outside lower center", ncols=2)
    return svg_of(out)


def episode(course: Course, alert: Alert) -> str:
    """Negatives in the alert's trailing window before and after it fired; of a theme, which nobody counts, its stories.

    The band holds 95 % of what the baseline, as it stood when the alert fired, expects of each window's other items.
    """
    window = alert.figures.window_min
    fired = int(alert.started_at.timestamp() // 60) - 1  # the minute whose end it is
    ended = int(alert.resolved_at.timestamp() // 60) if alert.resolved_at else fired
    begin = fired - max(720, 5 * window)
    end = max(fired + max(240, 2 * window), min(ended + 60, fired + 2_880))
    rows = course.between(alert.series, begin - window, end)
    if not len(rows):
        return _told(alert)
    minutes = np.zeros((2, end - begin + window + 1), dtype=np.int64)
    minutes[:, rows[:, 0] - (begin - window)] = rows[:, 1:3].T
    sums = minutes.cumsum(axis=1)
    sums = sums[:, window:] - sums[:, :-window]
    step = max(1, (end - begin) // _POINTS)
    at = np.arange((fired - begin) % step, sums.shape[1], step)  # with the minute it fired
    negatives, others = sums[:, at]
    expected, low, high = band(alert.figures, others)
    x = [_time(begin + int(n) + 1) for n in at]
    with svg_figure(7.4, 2.3, alert.id) as (figure, out):
        axes = figure.subplots()
        axes.fill_between(x, low, high, color=COLOURS[0], alpha=0.2, linewidth=0, label="expected, 95 %")
        axes.plot(x, expected, color=COLOURS[0], linewidth=1, linestyle="--", label="expected")
        axes.plot(x, negatives, color=_BAD, linewidth=1.5, label="negative items")
        axes.axvline(alert.started_at, color=INK, linewidth=1, label="fired")
        if alert.resolved_at and alert.resolved_at <= x[-1]:
            axes.axvline(alert.resolved_at, color=INK, linewidth=1, linestyle=":", label="resolved")
        axes.set(ylabel=f"in {length(window)}", ylim=(0, None), xlim=(x[0], x[-1]))
        axes.yaxis.get_major_locator().set_params(integer=True)
        _dates(axes)
        figure.legend(loc="outside right upper")
    return svg_of(out)


def _told(alert: Alert) -> str:
    """The stories that the alert shows, one by one, against how many negatives its window leads one to expect."""
    times = sorted(story.published_at for story in alert.stories)
    if not times:
        return ""
    seen = alert.figures
    begin = min(times[0], alert.started_at) - timedelta(minutes=seen.window_min / 20)
    end = max(times[-1], alert.started_at) + timedelta(minutes=seen.window_min / 20)
    with svg_figure(7.4, 2.3, alert.id) as (figure, out):
        axes = figure.subplots()
        axes.axhspan(seen.low, seen.high, color=COLOURS[0], alpha=0.2, linewidth=0, label="expected, 95 %")
        axes.axhline(seen.expected, color=COLOURS[0], linewidth=1, linestyle="--", label="expected")
        axes.step(
            [begin, *times, end],
            [0, *range(1, len(times) + 1), len(times)],
            where="post",
            color=_BAD,
            label="stories shown",
        )
        axes.axvline(alert.started_at, color=INK, linewidth=1, label="fired")
        axes.set(ylabel=f"in {length(seen.window_min)}", ylim=(0, None), xlim=(begin, end))
        axes.yaxis.get_major_locator().set_params(integer=True)
        _dates(axes)
        figure.legend(loc="outside right upper")
    return svg_of(out)


def band(
    seen: Figures, others: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return expected, low and high `[n]` beside so many other items, by the baseline that gave `seen`.

    The odds follow from what was expected, the scatter from z: both as `alerts.surge` has them.
    """
    expected = np.maximum(seen.expected / (seen.others + 0.5) * (others + 0.5), 1e-9)
    own = 1 / _size(seen) - 1 / (seen.others + 0.5)
    ends = [
        central_interval(float(mean), 1 / (max(own, 0.0) + 1 / (other + 0.5)))
        for mean, other in zip(expected, others, strict=True)
    ]
    low, high = np.array(ends, dtype=np.float64).T
    return expected, low, high


def _size(seen: Figures) -> float:
    """Return the negative binomial's size under which `seen` has its z; large where none has (rounded figures)."""

    def short(log_size: float) -> float:
        mean = max(seen.expected, 0.005)
        z = signed_root(np.array([float(seen.observed)]), np.array([mean]), np.array([np.exp(log_size)]))
        return float(z[0]) - seen.z

    try:
        return float(np.exp(brentq(short, -7.0, 16.0)))
    except ValueError:
        return 1e7


def _time(minute: int) -> datetime:
    return datetime.fromtimestamp(minute * 60, UTC)


def length(minutes: int) -> str:
    """Return a window's length as one reads it: 5 min, 1 h, 1 day."""
    for unit, name in ((10_080, "week"), (1_440, "day"), (60, "h")):
        if minutes % unit == 0:
            return f"{minutes // unit} {name}" if minutes > unit else f"1 {name}"
    return f"{minutes} min"


def _dates(axes: Any) -> None:
    from matplotlib import dates

    kinds: Any = dates  # matplotlib's own annotations stop here
    locator = kinds.AutoDateLocator(minticks=3, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(kinds.ConciseDateFormatter(locator, tz=UTC))
