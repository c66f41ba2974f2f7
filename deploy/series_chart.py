"""The picture of a scored series: value, expected band, and the points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from alerts.detect import Scored


def chart(results: list[Scored], title: str, path: Path) -> None:
    """Write the picture; its format is that of the file's name.

    Raises:
        OSError, ValueError: the file cannot be written, or its format is unknown.
        ModuleNotFoundError: matplotlib is not installed.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    times: Any = np.array([result.row.at * 1000 for result in results]).astype("datetime64[ms]")
    values = np.array([result.row.value for result in results])
    scores = np.array([result.score for result in results])
    band = np.array([result.band() for result in results]).reshape(-1, 2)
    with mpl.rc_context({"date.converter": "concise"}):
        figure = Figure(figsize=(12, 4.5), layout="constrained")
        axes = figure.add_subplot()
        axes.fill_between(times, band[:, 0], band[:, 1], step="pre", alpha=0.3, linewidth=0, label="expected (95 %)")
        axes.plot(times, values, color="0.25", linewidth=0.7, label="value")
        at = scores > 0
        label, sizes = "point (larger: rarer)", 20 + 120 * scores[at]
        axes.scatter(times[at], values[at], s=sizes, label=label, facecolors="none", edgecolors="tab:red", zorder=3)
        axes.set_yscale("symlog", linthresh=10)
        axes.set_ylim(bottom=0)
        axes.set_title(title)
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        figure.savefig(path, dpi=120)
