"""The table of what was tried: for the report, and for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from stream.events import Estimate
from stream.variants import Tried

_AGAINST = ("precision", "sensitivity", "minutes to detect", "false a week")


def rows_of(tried: Sequence[Tried]) -> list[list[str]]:
    """Return the cells, the header first; against known events only where there are any."""
    judged = any(each.verdict is not None for each in tried)
    header = ["tried", "alerts", "critical", "a week", *(_AGAINST if judged else ())]
    return [header, *(_cells(each) for each in tried)]


def text_of(tried: Sequence[Tried]) -> str:
    """Return the table as lines of a terminal."""
    rows = rows_of(tried)
    widths = [max(len(row[at]) for row in rows if len(row) == len(rows[0])) for at in range(len(rows[0]))]
    widths[0] = max(len(row[0]) for row in rows)
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows
    )


def share(found: Estimate) -> str:
    """Return a share with its interval."""
    if found.value is None or found.low is None or found.high is None:
        return "-"
    return f"{found.value:.0%} ({found.low:.0%} to {found.high:.0%})"


def number(found: Estimate) -> str:
    """Return a number with its interval."""
    if found.value is None or found.low is None or found.high is None:
        return "-"
    return f"{found.value:.3g} ({found.low:.3g} to {found.high:.3g})"


def _cells(tried: Tried) -> list[str]:
    if tried.failure:
        return [tried.name, f"not judged: {tried.failure}"]
    critical = sum(alert.severity == "critical" for alert in tried.alerts)
    cells = [tried.name, str(len(tried.alerts)), str(critical), number(tried.a_week)]
    if (seen := tried.verdict) is not None:
        cells += [share(seen.precision), share(seen.sensitivity), number(seen.delay_min), number(seen.false_a_week)]
    return cells
