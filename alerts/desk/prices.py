"""Prices beside an alert's chart: CSV files of a folder, one a company."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from alerts.series import company_of

log = logging.getLogger(__name__)

_MAX_ROWS, _MAX_POINTS = 1_000_000, 400


def prices(folder: Path | None, series: str, begin: datetime, end: datetime) -> list[tuple[datetime, float]]:
    """Return the prices of a series' company between two times, at most 400 of them; empty when there are none."""
    company = company_of(series)
    if folder is None or not company or not all(char.isalnum() or char in ".-" for char in company):
        return []
    path = folder / f"{company}.csv"
    if not path.is_file() or path.parent.resolve() != path.resolve().parent:
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            found = [point for point in _points(csv.DictReader(file)) if begin <= point[0] <= end]
    except (OSError, ValueError, csv.Error) as exc:
        log.warning("the prices in %s cannot be used: %s", path, exc)
        return []
    found.sort()
    step = -(-len(found) // _MAX_POINTS) or 1
    return found[::step]


def _points(rows: csv.DictReader[str]) -> Iterator[tuple[datetime, float]]:
    for number, row in enumerate(rows):
        if number >= _MAX_ROWS:
            raise ValueError(f"it has more than {_MAX_ROWS:,} rows")
        try:
            at, price = datetime.fromisoformat(row["timestamp"]), float(row["price"])
        except (KeyError, TypeError, ValueError) as exc:
            raise ValueError(f"row {number + 2}: `timestamp` (ISO 8601) and `price` are needed") from exc
        yield (at if at.tzinfo else at.replace(tzinfo=UTC)), price
