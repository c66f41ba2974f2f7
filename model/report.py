"""A report as a table for the terminal, as JSON, and as one page that needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from model.errors import ModelError
from model.robustness import USUAL

if TYPE_CHECKING:
    from model.evaluate import Report, SetResult
    from model.measures import Interval, Measures

HTML, JSON = "report.html", "report.json"


class Line(NamedTuple):
    """A line of the table: who answered which rows, and how well."""

    name: str
    measures: Measures
    ece: float | None
    ece_by_chance: float | None
    ece_uncalibrated: float | None
    own: bool  # a model's, not a baseline's


def lines(found: SetResult, *, copies: bool) -> Iterator[Line]:
    """One line for each model, each head that learnt this set, and each baseline.

    Args:
        found: Of one set.
        copies: Whether rows with a near copy in the training rows count.
    """
    for name, model in found.models.items():
        for title, answers in ((name, model.served), (f"{name}, head of this set alone", model.own_head)):
            if answers is not None and copies:
                yield Line(title, answers.all, answers.ece, answers.ece_by_chance, answers.ece_uncalibrated, True)
            elif answers is not None and answers.without_copies is not None:
                yield Line(title, answers.without_copies, None, None, None, True)
    for name, answers in found.baselines.items():
        measures = answers.all if copies else answers.without_copies
        if measures is not None:
            yield Line(name, measures, None, None, None, False)


def table(report: Report) -> str:
    """The report's numbers in Markdown."""
    text = [
        "| set | rows | by | accuracy | macro F1 | weighted F1 | ECE | ECE by chance | ECE at temperature 1 |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for found in report.sets.values():
        for title, copies in ((found.title, True), (f"{found.title}, no near copies", False)):
            for line in lines(found, copies=copies):
                own = line.measures
                errors = (line.ece, line.ece_by_chance, line.ece_uncalibrated)
                scores = (own.accuracy, own.macro_f1, own.weighted_f1)
                cells = [title, f"{own.rows:,}", line.name, *map(interval, scores), *map(_share, errors)]
                text.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    for name, robust in report.robustness.items():
        usual = robust.usual
        text += [
            "",
            f"{name}: labels kept under {', '.join(USUAL)}: sentiment {usual.sentiment:.3f}, topic {usual.topic:.3f}; "
            f"negation as it must be in {robust.negation:.0%} of the pairs",
        ]
    for name, curves in report.few_shot.items():
        head = ", ".join(f"{point.labels:,}: {point.macro_f1:.3f}" for point in curves.embeddings)
        tfidf = ", ".join(f"{point.labels:,}: {point.macro_f1:.3f}" for point in curves.tfidf)
        text += [
            "",
            f"{name}: macro F1 on a fifth of {curves.task} without labels {curves.no_labels.macro_f1:.3f}; "
            f"a head fitted on so many labels {head}; TF-IDF + linear SVM {tfidf}",
        ]
    return "\n".join(text)


def to_json(report: Report) -> bytes:
    """The whole report."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1)


def page(report: Report) -> str:
    """The whole report as HTML. Everything that comes from data is escaped: texts may be hostile."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    from model import report_charts

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"share": _share, "interval": interval}
    pictures: dict[str, Any] = {
        "overview": Markup(report_charts.overview(report)),  # noqa: S704 - matplotlib escapes what it draws
        "kept": Markup(report_charts.kept(report)),  # noqa: S704
        "few_shot": {
            name: Markup(report_charts.few_shot(curves, f"few-shot {name}"))  # noqa: S704
            for name, curves in report.few_shot.items()
        },
        "reliability": {
            (key, name): Markup(  # noqa: S704
                report_charts.reliability(model.reliability, model.reliability_uncalibrated, f"{key} {name}")
            )
            for key, found in report.sets.items()
            for name, model in found.models.items()
        },
    }
    return environment.get_template("report.html.j2").render(
        report=report, pictures=pictures, lines=lines, newsquake=version("newsquake"), usual=USUAL
    )


def write(report: Report, folder: Path) -> Path:
    """Write `report.json` and `report.html` into the folder; returns the page. Raises `ModelError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / JSON).write_bytes(to_json(report))
        (folder / HTML).write_text(page(report), "utf-8")
    except OSError as exc:
        raise ModelError(f"the report cannot be written to {folder}: {exc}") from exc
    return folder / HTML


def interval(score: Interval) -> str:
    """A score with its interval, for people."""
    return f"{score.value:.3f} ({score.low:.3f} to {score.high:.3f})"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
