"""Scores of a series: no look-ahead, any regular or irregular time, and mistakes named."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.detect import Row, Scored, SeriesFileError, Told, read, scored, write

MONDAY = 1_741_564_800


def series(rows: int = 700, step_s: float = 3600, seed: int = 0) -> list[Row]:
    """Counts at irregular times, with gaps, repeats, missing values and two surges."""
    noise = np.random.default_rng(seed)
    steps = step_s * noise.uniform(0.7, 1.3, rows)
    steps[noise.random(rows) < 0.02] *= 9
    steps[noise.random(rows) < 0.02] = 0
    at = MONDAY + np.cumsum(steps)
    values = noise.poisson(20, rows).astype(float)
    values[400:404], values[600:603] = 120, 400
    values[noise.random(rows) < 0.03] = np.nan
    return [Row(str(when), float(when), float(value)) for when, value in zip(at, values, strict=True)]


ROWS = series()
WHOLE = list(scored(ROWS))


def same(one: list[Scored], other: list[Scored]) -> bool:
    return all(
        np.array_equal([a.score, a.expected, a.variance], [b.score, b.expected, b.variance], equal_nan=True)
        for a, b in zip(one, other, strict=True)
    )


@settings(max_examples=12, deadline=None)
@given(st.integers(0, len(ROWS)))
def test_a_score_uses_the_rows_up_to_its_own(cut: int) -> None:
    # A row of the same time belongs to the first of them: a cut within would change what that one holds.
    while 0 < cut < len(ROWS) and ROWS[cut].at == ROWS[cut - 1].at:
        cut += 1
    assert same(WHOLE[:cut], list(scored(ROWS[:cut])))


def test_surges_stand_out() -> None:
    points = [at for at, result in enumerate(WHOLE) if result.score > 0.4]
    assert {at // 10 for at in points} == {40, 60}
    assert all(0 <= result.score <= 1 for result in WHOLE)


def test_what_is_unusual_is_told() -> None:
    told = Told()
    assert len(list(scored(ROWS, told))) == told.rows == len(ROWS)
    assert told.step_s == pytest.approx(3600, rel=0.15)
    assert told.missing == sum(np.isnan(row.value) for row in ROWS)
    assert told.repeated == sum(a.at == b.at for a, b in pairwise(ROWS))
    assert told.gaps > 5 and told.gap_s > 5 * 8 * 3600 * 0.6
    assert told.points == sum(result.score > 0 for result in WHOLE)


@pytest.mark.parametrize("step_s", [60, 86_400])
def test_minutes_and_days_are_judged_too(step_s: float) -> None:
    noise = np.random.default_rng(1)
    values = noise.poisson(30, 3000 if step_s == 60 else 120).astype(float)
    at = len(values) - 10
    values[at:] *= 5
    rows = [Row("", float(MONDAY + place * step_s), value) for place, value in enumerate(values)]
    found = [place for place, result in enumerate(scored(rows)) if result.score > 0.4]
    assert found and at <= min(found) <= at + 4


def test_times_in_any_form_are_the_same_times(tmp_path: Path) -> None:
    forms = {
        "iso": ["2025-03-10 00:00:00", "2025-03-10 01:00:00"],
        "zone": ["2025-03-10T01:00:00+01:00", "2025-03-09T20:00:00-05:00"],
        "unix": [str(MONDAY), str(MONDAY + 3600)],
        "milliseconds": [str(MONDAY * 1000), str((MONDAY + 3600) * 1000)],
    }
    for name, (first, second) in forms.items():
        path = tmp_path / f"{name}.csv"
        path.write_text(f"\ufeffid,Timestamp, Value\n1,{first},3\n2,{second},\n", "utf-8")
        rows = read(path)
        assert [row.at for row in rows] == [MONDAY, MONDAY + 3600]
        assert rows[0].value == 3 and np.isnan(rows[1].value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("time,value\n1,2\n", "no column 'timestamp'"),
        ("", "no column 'timestamp'"),
        ("timestamp,value\n1,2\nyesterday,3\n", "row 3, column timestamp: 'yesterday'"),
        ("timestamp,value\n5,2\n4,3\n", "row 3, column timestamp: '4' is earlier"),
        ("timestamp,value\n1,many\n", "row 2, column value: 'many' is not a number"),
        ("timestamp,value\n1,-2\n", "row 2, column value: -2 is no count"),
        ("timestamp,value\n1,inf\n", "row 2, column value: inf is no count"),
        ("timestamp,value\n\x00\x80,1\n", "row 2, column timestamp"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "series.csv"
    path.write_text(text, "utf-8")
    with pytest.raises(SeriesFileError, match=r"series\.csv") as raised:
        read(path)
    assert said in str(raised.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    path.write_bytes(b"timestamp,value\n\xff\xfe,1\n")
    with pytest.raises(SeriesFileError, match="cannot be read"):
        read(path)


def test_what_was_read_is_written_a_row_a_row(tmp_path: Path) -> None:
    write(tmp_path / "out.csv", WHOLE)
    lines = (tmp_path / "out.csv").read_text("utf-8").splitlines()
    assert lines[0] == "timestamp,value,anomaly_score" and len(lines) == len(ROWS) + 1
    assert [row.at for row in read(tmp_path / "out.csv")] == [row.at for row in ROWS]
