"""`newsquake drift`: has the text that comes in, or what the model makes of it, moved?"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deploy import settings as settings_module
from deploy.settings import Settings, SettingsError

if TYPE_CHECKING:
    from model.drift import Drift
    from model.stretch import Sample

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]


@click.command()
@click.argument("file", type=_FILE, required=False)
@click.option(
    "--hours",
    type=click.FloatRange(0, min_open=True),
    default=24.0,
    show_default=True,
    help="Without FILE: length of the stretch that is judged, read from Kafka.",
)
@click.option(
    "--until", type=click.DateTime(_TIMES), help="Without FILE: its end (UTC unless it says); now by default."
)
@click.option("--reference", type=_FILE, help="File of the items to compare with.")
@click.option(
    "--reference-hours",
    type=click.FloatRange(0, min_open=True),
    default=168.0,
    show_default=True,
    help="Without --reference: the hours before, read from Kafka.",
)
@click.option("--rescore", is_flag=True, help="Score the items of both anew, with the present model.")
@click.option(
    "--keep",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the items of the judged stretch to this .jsonl, to be a later --reference.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--metrics-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write Prometheus metrics to this .prom, for the node exporter's textfile collector.",
)
def drift(
    file: Path | None,
    hours: float,
    until: datetime | None,
    reference: Path | None,
    reference_hours: float,
    rescore: bool,
    keep: Path | None,
    as_json: bool,
    metrics_file: Path | None,
) -> None:
    """Compare a stretch of scored items with a reference stretch.

    FILE and --reference are .jsonl (records of the topic `scored`, lines of `newsquake score`, or objects with a
    `text`), .csv or .parquet with a column `text`. Without them the stretches are read from Kafka: the last --hours,
    against the --reference-hours before. A story counts once.

    Exit code 0: nothing has drifted; 1: something has; 2: it cannot be said.
    """
    config = settings_module.load()

    from deploy.topic_history import HistoryError
    from model.drift import compare
    from model.drift_view import View
    from model.errors import ModelError
    from model.scorer import Scorer
    from model.stretch import keep as write
    from model.stretch import stretch

    if file and not reference:
        raise click.UsageError("FILE needs --reference, a file to compare with")
    if keep and keep.suffix != ".jsonl":
        raise click.UsageError("the file of --keep must end in .jsonl")
    end = (until or datetime.now(UTC)).astimezone(UTC) if until is None or until.tzinfo else until.replace(tzinfo=UTC)
    start = end - timedelta(hours=hours)
    scorer = cache(lambda: Scorer.load(config.model))
    try:
        now_name, now = _sample(config, file, start, end)
        if keep:
            write(now, keep)
        before_name, before = _sample(config, reference, start - timedelta(hours=reference_hours), start)
        current = stretch(now_name, now, scorer, rescore=rescore)
        base = stretch(before_name, before, scorer, rescore=rescore)
        view = View.load(config.model) if current.texts and base.texts else None
        report = compare(base, current, config.drift, view)
        if metrics_file:
            _write_metrics(report, metrics_file)
    except (ModelError, HistoryError, SettingsError, OSError) as exc:
        click.echo(f"newsquake: {exc}", err=True)
        sys.exit(2)
    except ModuleNotFoundError as exc:
        click.echo(f"newsquake: {exc.name} is not installed: pip install 'newsquake[train]'", err=True)
        sys.exit(2)
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2, ensure_ascii=False))
    else:
        _print(report)
    sys.exit(1 if report.drifted else 0)


def _sample(config: Settings, file: Path | None, start: datetime, end: datetime) -> tuple[str, Sample]:
    from model.stretch import choose, file_rows

    if file:
        return str(file), choose(file_rows(file), config.drift.items)

    from deploy.scored_history import scored_rows
    from deploy.servers import kafka_of

    rows = scored_rows(kafka_of(config), config.kafka, start, end)
    return f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC", choose(rows, config.drift.items)


def _write_metrics(report: Drift, path: Path) -> None:
    from prometheus_client import CollectorRegistry, write_to_textfile

    from model.metrics import DriftMetrics

    registry = CollectorRegistry()
    DriftMetrics(registry).fill(report, time.time())
    write_to_textfile(str(path), registry)


def _print(report: Drift) -> None:
    console = Console()
    for title, side in (("reference", report.reference), ("current", report.current)):
        unread = f", {side.unreadable:,} records could not be read" if side.unreadable else ""
        console.print(
            f"{title}: {escape(side.name)}: {side.items:,} stories of {side.seen:,} items{unread}; "
            f"model {escape(', '.join(side.models))}",
            highlight=False,
        )
    table = Table("measure", title="newsquake drift", title_justify="left")
    for column in ("size", "threshold", "p"):
        table.add_column(column, justify="right")
    table.add_column("state")
    table.add_column("what was found", overflow="fold")
    for measure in report.measures:
        state = "[bold red]drifted[/]" if measure.drifted else "[green]ok[/]"
        numbers = (f"{measure.value:.3f}", f"{measure.threshold:g}", f"{measure.p_value:.2g}")
        table.add_row(measure.name, *numbers, state, escape(measure.note))
    console.print(table)
    for remark in report.remarks:
        console.print(f"note: {escape(remark)}", highlight=False)
