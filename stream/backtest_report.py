"""What a backtest leaves in its folder: `alerts.jsonl`, `report.html`, where needed `bad_rows.jsonl` and `tried/`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from alerts.alert import Alert, at_end_of
from stream.backtest import Result, line_of
from stream.backtest_table import number, rows_of, share
from stream.course import Course
from stream.events import Known, Verdict, rate
from stream.history import History, HistoryError, Input
from stream.variants import Tried

ALERTS, BAD_ROWS, REPORT, TRIED = "alerts.jsonl", "bad_rows.jsonl", "report.html", "tried"
MOST_CHARTS = 400
"""Alerts drawn in the page, the most surprising first; beyond it they stand in the table and in `alerts.jsonl`."""
_SHOWN_BAD_ROWS = 100


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What the page says of the run beside its result."""

    file: str
    model: str
    columns: dict[str, str]
    settings: dict[str, Any]
    notes: list[str]


def write(
    folder: Path,
    result: Result,
    *,
    about: About,
    taken: Input,
    history: History,
    course: Course,
    events: Sequence[Known],
    verdict: Verdict | None,
    tried: Sequence[Tried] = (),
) -> Path:
    """Write the files; return the page's path. Of what was `tried` the page has a table.

    Raises:
        HistoryError: the folder cannot be written.
    """
    bad = history.bad_rows()
    try:
        _lines(folder / ALERTS, map(line_of, result.alerts))
        if bad:
            _lines(folder / BAD_ROWS, ({"row": row, "reason": reason} for row, reason in bad))
        else:
            (folder / BAD_ROWS).unlink(missing_ok=True)
        text = page(result, about, taken, bad[:_SHOWN_BAD_ROWS], course, events, verdict, tried)
        _whole(folder / REPORT, text.encode("utf-8", "replace"))
    except OSError as exc:
        raise HistoryError(f"the results cannot be written to {folder}: {exc}") from exc
    return folder / REPORT


def write_tried(folder: Path, tried: Sequence[Tried]) -> None:
    """Write the alerts of each that was judged to a folder of its own, `tried/NAME`.

    Raises:
        HistoryError: the folder cannot be written.
    """
    try:
        for each in tried:
            if not each.failure:
                (folder / TRIED / each.name).mkdir(parents=True, exist_ok=True)
                _lines(folder / TRIED / each.name / ALERTS, map(line_of, each.alerts))
    except OSError as exc:
        raise HistoryError(f"the results cannot be written to {folder}: {exc}") from exc


def page(
    result: Result,
    about: About,
    taken: Input,
    bad: Sequence[tuple[int, str]],
    course: Course,
    events: Sequence[Known],
    verdict: Verdict | None,
    tried: Sequence[Tried] = (),
) -> str:
    """Return the report as one page that needs nothing beside itself. Whatever comes from data is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    from stream import backtest_charts

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"moment": "{:%Y-%m-%d %H:%M}".format, "share": share, "number": number}
    environment.filters |= {"few": _few, "length_of": backtest_charts.length}
    drawn = sorted(result.alerts, key=lambda alert: -alert.figures.z)[:MOST_CHARTS]
    first, last = result.first, result.last
    return environment.get_template("backtest.html.j2").render(
        about=about,
        taken=taken,
        result=result,
        bad=bad,
        verdict=verdict,
        tried=rows_of(tried) if tried else [],
        begin=at_end_of(first - 1),
        end=at_end_of(last),
        days=(last - first + 1) / 1_440,
        a_week=rate(len(result.alerts), (last - first + 1) / 10_080),
        timeline=Markup(backtest_charts.timeline(course, result.alerts, events, first, last)),  # noqa: S704 - escaped by matplotlib
        weekly=Markup(backtest_charts.weekly(result.alerts, first, last)),  # noqa: S704
        charts={alert.id: Markup(backtest_charts.episode(course, alert)) for alert in drawn},  # noqa: S704
        lasted=_lasted,
        newsquake=version("newsquake"),
    )


def _lasted(alert: Alert) -> str:
    if alert.resolved_at is None:
        return "open at the end"
    minutes = int((alert.resolved_at - alert.started_at).total_seconds() // 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _few(value: float) -> str:
    """A number of items: tenths from 1 on, two digits below."""
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    _whole(path, b"".join(msgspec.json.encode(row) + b"\n" for row in rows))


def _whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    part = path.with_suffix(path.suffix + ".part")
    part.write_bytes(content)
    part.replace(path)
