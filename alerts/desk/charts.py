"""Charts as SVG, drawn at the server: sparklines and an alert's course. Looks are the style sheet's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import pairwise

from markupsafe import Markup, escape

from alerts.alert import Alert
from alerts.course import Bin
from alerts.now import Row

_SPARK_W, _SPARK_H = 120, 24
_W, _H, _LEFT, _RIGHT, _TOP, _BOTTOM = 900, 276, 38, 46, 30, 26
_SPANS = (5, 15, 60)
_MOST_BINS = 96

_Axis = Callable[[float], float]


def spark(row: Row) -> Markup:
    """Return a row's counts: bars of all items, in front of them those that are negative."""
    most = max(1, *row.totals)
    step = _SPARK_W / len(row.totals)
    parts = []
    for n, (negative, total) in enumerate(zip(row.negatives, row.totals, strict=True)):
        for css, count in (("all", total), ("neg", negative)):
            if count:
                height = max(1.0, _SPARK_H * count / most)
                parts.append(
                    f'<rect class="{css}" x="{n * step:.1f}" y="{_SPARK_H - height:.1f}" '
                    f'width="{max(0.8, step - 0.7):.1f}" height="{height:.1f}"/>'
                )
    span = "hour" if row.bin_min < 60 else "24 hours"
    words = f"{sum(row.negatives)} negative of {sum(row.totals)} items in the last {span}"
    return Markup(  # noqa: S704 - numbers and words of our own
        f'<svg class="spark" viewBox="0 0 {_SPARK_W} {_SPARK_H}" preserveAspectRatio="none" role="img" '
        f'aria-label="{words}"><title>{words}</title>{"".join(parts)}</svg>'
    )


def meter(row: Row) -> Markup:
    """Return how many of a row's items are negative as a mark over the band of what is expected."""
    total = row.observed + row.others
    low, high = (min(count, total) for count in (row.low, row.high))
    words = f"{row.observed} of {total} negative, expected {low} to {high}"
    x, begin, end = (100 * count / max(1, total) for count in (row.observed, low, high))
    css = "mark over" if row.observed > row.high else "mark"
    return Markup(  # noqa: S704 - numbers and words of our own
        f'<svg class="meter" viewBox="0 0 100 12" preserveAspectRatio="none" role="img" aria-label="{words}">'
        f'<title>{words}</title><rect class="rail" x="0" y="5" width="100" height="2"/>'
        f'<rect class="band" x="{begin:.1f}" y="2" width="{max(1.0, end - begin):.1f}" height="8"/>'
        f'<rect class="{css}" x="{min(98.4, max(0.0, x - 0.8)):.1f}" y="0" width="1.6" height="12"/></svg>'
    )


def choose(bins: Sequence[Bin], alert: Alert) -> list[Bin]:
    """Return the bins to draw: of the shortest length that shows the alert's whole course and its past.

    An alert of a short window is drawn finely, one of a day by the hour.
    """
    shortest = {5: 5, 15: 5, 30: 5, 60: 15, 120: 15}.get(alert.figures.window_min, 60)
    for span in (each for each in _SPANS if each >= shortest):
        found = [each for each in bins if each.span_min == span]
        whole = bool(found) and all(b.start - a.start == span for a, b in pairwise(found))
        ended = alert.resolved_at or alert.updated_at
        reaches = bool(found) and (found[-1].start + 3 * span) * 60 >= ended.timestamp()
        if whole and reaches and len(found) <= _MOST_BINS:
            return found
    return [each for each in bins if each.span_min == _SPANS[-1]][-_MOST_BINS:]


def bins_of(row: Row, minute: int) -> list[Bin]:
    """Return a row's counts at a minute as bins; none when it was not told what was expected in them."""
    span, first = row.bin_min, minute // row.bin_min - len(row.totals) + 1
    counts = zip(row.negatives, row.totals, row.due, row.lows, row.highs, strict=False)
    return [
        Bin((first + n) * span, span, negatives, total - negatives, due, low, high)
        for n, (negatives, total, due, low, high) in enumerate(counts)
    ]


def course(
    name: str, drawn: Sequence[Bin], alert: Alert | None = None, prices: Sequence[tuple[datetime, float]] = ()
) -> Markup:
    """Return the chart of a series: negatives against what was expected, when an alert fired and ended, the price."""
    span = drawn[0].span_min
    begin, end = drawn[0].start, drawn[-1].start + span
    most = max(1, *(max(each.negatives, each.high) for each in drawn))
    most = _round_up(most)

    def x(minute: float) -> float:
        return _LEFT + (_W - _LEFT - _RIGHT) * (minute - begin) / (end - begin)

    def y(count: float) -> float:
        return _TOP + (_H - _TOP - _BOTTOM) * (1 - count / most)

    parts = [_grid(most, y)]
    top = [f"{x(e.start):.1f},{y(e.high):.1f} {x(e.start + span):.1f},{y(e.high):.1f}" for e in drawn]
    bottom = [f"{x(e.start + span):.1f},{y(e.low):.1f} {x(e.start):.1f},{y(e.low):.1f}" for e in reversed(drawn)]
    parts.append(f'<polygon class="band" points="{" ".join(top + bottom)}"/>')
    for each in drawn:
        css = "neg over" if each.negatives > each.high else "neg"
        left, right = x(each.start), x(each.start + span)
        share = each.negatives / max(1, each.negatives + each.others)
        words = (
            f"{_clock(each.start)}-{_clock(each.start + span)} UTC: {each.negatives} negative ({share:.0%} of "
            f"{each.negatives + each.others}), expected {each.expected:.1f} ({each.low}-{each.high})"
        )
        parts.append(
            f'<rect class="{css}" data-bin="{each.start} {each.start + span}" '
            f'x="{left + 0.6:.1f}" y="{y(each.negatives):.1f}" '
            f'width="{max(1.0, right - left - 1.2):.1f}" height="{max(0.0, y(0) - y(each.negatives)):.1f}">'
            f"<title>{words}</title></rect>"
        )
    mean = " ".join(f"{x(e.start + span / 2):.1f},{y(e.expected):.1f}" for e in drawn)
    parts.append(f'<polyline class="mean" points="{mean}"/>')
    parts += [_hours(begin, end, x), _price(prices, begin, end, x)]
    moments = (("fired", alert.started_at), ("moved", alert.moved_at), ("ended", alert.resolved_at)) if alert else ()
    labels = []  # over the lines of all
    for line, (css, at) in enumerate(moments):
        if at is not None and begin <= (minute := at.timestamp() / 60) <= end:
            near_end = x(minute) > _W - 170
            anchor, shift = ("end", -4) if near_end else ("start", 4)
            parts.append(
                f'<line class="moment {css}" x1="{x(minute):.1f}" x2="{x(minute):.1f}" '
                f'y1="{_TOP - 6}" y2="{y(0):.1f}"/>'
            )
            labels.append(
                f'<text class="moment" x="{x(minute) + shift:.1f}" y="{_TOP + 10 + 24 * line}" text-anchor="{anchor}">'
                f'{css} <tspan data-at="{int(minute)}">{_clock(minute)}</tspan></text>'
            )
    parts += labels
    seen = sum(each.negatives > each.high for each in drawn)
    words = escape(
        f"{name}: negative items in bins of {span} minutes; {seen} of {len(drawn)} bins are above the band that "
        f"holds 95 % of what was expected"
    )
    return Markup(  # noqa: S704 - the only text from outside is escaped
        f'<svg class="course" viewBox="0 0 {_W} {_H}" role="img" aria-label="{words}"><title>{words}</title>'
        f"{''.join(parts)}</svg>"
    )


def _grid(most: int, y: _Axis) -> str:
    lines = [
        f'<text x="{_LEFT + 4}" y="14">negative items</text>',
        f'<text x="{_LEFT - 6}" y="{_H - 8}" text-anchor="end" data-zone="local">UTC</text>',
    ]
    for count in sorted({0, most // 2, most}):
        lines.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_W - _RIGHT}" y1="{y(count):.1f}" y2="{y(count):.1f}"/>'
            f'<text x="{_LEFT - 6}" y="{y(count) + 4:.1f}" text-anchor="end">{count}</text>'
        )
    return "".join(lines)


def _hours(begin: int, end: int, x: _Axis) -> str:
    step = next(step for step in (10, 30, 60, 180, 360, 720, 1_440, 10_080, 10**9) if (end - begin) / step <= 9)
    first = -(-begin // step) * step
    labels = "".join(
        f'<text x="{x(minute):.1f}" y="{_H - 8}" text-anchor="middle">{_clock(minute)}</text>'
        for minute in range(first, end + 1, step)
        if _LEFT < x(minute) < _W - _RIGHT
    )
    axis = f"{begin} {end} {step} {_LEFT} {(_W - _LEFT - _RIGHT) / (end - begin):.6f} {_H - 8}"  # for other zones
    return f'<g data-axis="{axis}">{labels}</g>'


def _price(prices: Sequence[tuple[datetime, float]], begin: int, end: int, x: _Axis) -> str:
    points = [(at.timestamp() / 60, price) for at, price in prices if begin <= at.timestamp() / 60 <= end]
    if len(points) < 2:
        return ""
    low, high = min(price for _, price in points), max(price for _, price in points)
    height = _H - _TOP - _BOTTOM

    def y(price: float) -> float:
        return _TOP + height * (0.1 + 0.8 * (1 - (price - low) / ((high - low) or 1.0)))

    line = " ".join(f"{x(minute):.1f},{y(price):.1f}" for minute, price in points)
    return (
        f'<polyline class="price" points="{line}"/>'
        f'<text class="price" x="{_W - _RIGHT + 4}" y="{y(high) + 4:.1f}">{high:g}</text>'
        f'<text class="price" x="{_W - _RIGHT + 4}" y="{y(low) + 4:.1f}">{low:g}</text>'
    )


def _clock(minute: float) -> str:
    at = datetime.fromtimestamp(int(minute) * 60, UTC)
    return f"{at:%d %b}" if at.hour == at.minute == 0 else f"{at:%H:%M}"


def _round_up(count: int) -> int:
    step = 10 ** (len(str(count)) - 1)
    return int(-(-count // max(1, step // 2)) * max(1, step // 2)) if count > 9 else count
