"""`newsquake detect`, as a user calls it."""

import csv
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from deploy.cli import cli


def write_series(path: Path) -> None:
    values = np.random.default_rng(0).poisson(12, 400)
    values[380:384] = 90
    days = [f"2025-03-{1 + at // 24:02d} {at % 24:02d}:00:00,{value}" for at, value in enumerate(values)]
    path.write_text("timestamp,value\n" + "\n".join(days[:100] + days[130:]) + "\n", "utf-8")


def test_a_series_is_scored_and_drawn(tmp_path: Path) -> None:
    write_series(tmp_path / "in.csv")
    arguments = ["detect", str(tmp_path / "in.csv"), "--out", str(tmp_path / "out.csv")]
    result = CliRunner().invoke(cli, [*arguments, "--plot", str(tmp_path / "out.png")])
    assert result.exit_code == 0, result.output
    assert "370 rows, 3600 s apart" in result.output and "1 gaps, 30.0 h" in result.output
    with (tmp_path / "out.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    best = max(rows, key=lambda row: float(row["anomaly_score"]))
    assert best["value"] == "90" and best["timestamp"] >= "2025-03-16 20:00:00"
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_done_is_said_with_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("timestamp,value\n1,2\nnever,3\n", "utf-8")
    result = CliRunner().invoke(cli, ["detect", str(tmp_path / "in.csv"), "--out", str(tmp_path / "out.csv")])
    assert result.exit_code == 2 and "row 3, column timestamp" in result.output
    write_series(tmp_path / "in.csv")
    for arguments in (
        ["--out", str(tmp_path / "none" / "out.csv")],
        ["--out", str(tmp_path / "o.csv"), "--plot", str(tmp_path / "o.nothing")],
    ):
        result = CliRunner().invoke(cli, ["detect", str(tmp_path / "in.csv"), *arguments])
        assert result.exit_code == 2 and "cannot be written" in result.output
