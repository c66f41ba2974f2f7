"""Pictures of a report, as SVG to stand inside a page: text and lines take the page's colours, light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model.evaluate import Report
    from model.few_shot import FewShot, Point
    from model.measures import Bin

INK = "#010203"  # stands for the page's text colour
COLOURS = ("#3b82c4", "#d97a1f", "#3f9b56", "#8e63c7", "#c2506e", "#8a8f98", "#1f9aa3", "#a8862a")
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # letters stay letters
    "text.parse_math": False,  # a dollar sign in a name is one
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "font.size": 9,
    "legend.frameon": False,
}
_BARE = {"Date": None, "Creator": None, "Format": None, "Type": None}


def overview(report: Report) -> str:
    """Accuracy of every model and baseline on every set, with intervals of 95 %."""
    names = [*report.models, *dict.fromkeys(name for each in report.sets.values() for name in each.baselines)]
    with svg_figure(8.5, 1.0 + (0.16 * len(names) + 0.16) * len(report.sets), "overview") as (figure, out):
        axes = figure.subplots()
        for place, name in enumerate(names):
            rows = []
            for line, each in enumerate(report.sets.values()):
                found = each.models[name].served if name in each.models else each.baselines.get(name)
                if found is not None:
                    rows.append((line + (place - (len(names) - 1) / 2) * 0.8 / len(names), found.all.accuracy))
            if rows:
                values = [score.value for _, score in rows]
                axes.errorbar(
                    values,
                    [y for y, _ in rows],
                    xerr=[
                        [max(0.0, score.value - score.low) for _, score in rows],
                        [max(0.0, score.high - score.value) for _, score in rows],
                    ],
                    fmt="o" if name in report.models else "|",
                    markersize=6,
                    color=COLOURS[place % len(COLOURS)],
                    label=name,
                )
        axes.set_yticks(range(len(report.sets)), [each.title for each in report.sets.values()])
        axes.invert_yaxis()
        axes.set(xlabel="accuracy", xlim=(0, 1))
        axes.grid(axis="x", color=INK, alpha=0.15)
        figure.legend(loc="outside lower center", ncols=3)
    return svg_of(out)


def reliability(served: Sequence[Bin], raw: Sequence[Bin], salt: str) -> str:
    """Share right against confidence; on the diagonal the model means what it says."""
    with svg_figure(3.6, 3.3, salt) as (figure, out):
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=INK, alpha=0.35, linewidth=1)
        total = sum(each.rows for each in served) or 1
        for bins, colour, label in ((raw, COLOURS[5], "temperature 1"), (served, COLOURS[0], "as served")):
            if bins:
                x, y = [each.confidence for each in bins], [each.right for each in bins]
                axes.plot(x, y, color=colour, linewidth=1.2, label=label)
                axes.scatter(x, y, s=[6 + 160 * each.rows / total for each in bins], color=colour, alpha=0.8)
        axes.set(xlabel="confidence", ylabel="share right", xlim=(0, 1.02), ylim=(0, 1.02))
        axes.legend(loc="lower right")
    return svg_of(out)


def kept(report: Report) -> str:
    """Share of labels that stay under each small change."""
    changes = list(next(iter(report.robustness.values())).kept)
    bars = [
        (f"{version}, {head}", [getattr(found.kept[change], head) for change in changes])
        for version, found in report.robustness.items()
        for head in ("sentiment", "topic")
    ]
    with svg_figure(8.5, 1.0 + (0.14 * len(bars) + 0.14) * len(changes), "kept") as (figure, out):
        axes = figure.subplots()
        for place, (name, values) in enumerate(bars):
            ys = [line + (place - (len(bars) - 1) / 2) * 0.6 / len(bars) for line in range(len(changes))]
            axes.plot(values, ys, "o", color=COLOURS[place % len(COLOURS)], label=name)
        axes.set_yticks(range(len(changes)), changes)
        axes.invert_yaxis()
        axes.set(xlabel="share of labels that stay")
        axes.grid(color=INK, alpha=0.15)
        figure.legend(loc="outside lower center", ncols=2)
    return svg_of(out)


def few_shot(curves: FewShot, salt: str) -> str:
    """Macro F1 by the number of labels, with the standard deviation over seeds."""
    with svg_figure(5.5, 3.4, salt) as (figure, out):
        axes = figure.subplots()
        _curve(axes, curves.embeddings, COLOURS[0], "a head fitted on this encoder")
        _curve(axes, curves.tfidf, COLOURS[1], "TF-IDF + linear SVM")
        axes.axhline(curves.no_labels.macro_f1, color=COLOURS[2], linestyle="--", label="as served, without labels")
        axes.set(xscale="log", xlabel="labels", ylabel="macro F1")
        ticks = [point.labels for point in curves.embeddings]
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks], minor=False)
        axes.set_xticks([], minor=True)
        axes.grid(color=INK, alpha=0.15)
        axes.legend()
    return svg_of(out)


def _curve(axes: Any, points: Sequence[Point], colour: str, label: str) -> None:
    if points:
        x, y = [point.labels for point in points], [point.macro_f1 for point in points]
        axes.errorbar(x, y, yerr=[point.spread for point in points], fmt="o-", color=colour, label=label)


@contextmanager
def svg_figure(width: float, height: float, salt: str) -> Iterator[tuple[Any, io.StringIO]]:
    """A figure of so many inches, drawn into the text on leaving; `salt` must be its own within a page."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    out = io.StringIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": salt}):  # ids that no other picture of the page has
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, out
        figure.savefig(out, format="svg", transparent=True, metadata=_BARE)


def svg_of(out: io.StringIO) -> str:
    """The drawn picture as an element for a page."""
    text = out.getvalue()
    return re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL).replace(
        INK, "currentColor"
    )
