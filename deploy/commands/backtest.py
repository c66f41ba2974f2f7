"""`newsquake backtest`: a history through the same code that runs live, and a report."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy import log, settings
from deploy.commands._options import fail
from deploy.commands._progress import shown_stages

if TYPE_CHECKING:
    from stream.backtest import Result
    from stream.batch import Scoring
    from stream.events import Known, Verdict
    from stream.history import Input

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
KEPT = "backtest.sqlite"


@click.command()
@click.argument("file", type=_FILE)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for the results.")
@click.option("--time", help="Column with the time: ISO 8601 (no zone: UTC), or Unix s, ms or µs.")
@click.option("--seen", help="Column with the time at which the item could first be had, if another.")
@click.option("--title", help="Column with the title.")
@click.option("--text", help="Column with the text.")
@click.option("--source", "publisher", help="Column with who says it; without one, one publisher is enough to alert.")
@click.option("--id", "id", help="Column with the publisher's id of the item; a repeated one counts once.")
@click.option("--link", "url", help="Column with the address.")
@click.option("--company", "ticker", help="Column with ticker symbols; cashtags in the text count in any case.")
@click.option("--rules", type=_FILE, help="File of rules, for alerts.rules.")
@click.option("--events", type=_FILE, help="Known events, .csv or .jsonl: time, name and perhaps series.")
@click.option(
    "--within",
    type=click.FloatRange(0.1, 24 * 365),
    default=24.0,
    show_default=True,
    help="Hours after an event in which an alert may be about it.",
)
def backtest(
    file: Path, out: Path, rules: Path | None, events: Path | None, within: float, **columns: str | None
) -> None:
    """Put the time-stamped items of FILE (.csv, .jsonl, .parquet; .gz) through scoring, windows and detectors.

    Columns that are not named are found by the usual names. Writes alerts.jsonl, a line an alert, and report.html to
    the folder, and keeps cleaned items, scores and windows there: the next run, with other settings or after a kill,
    reads, scores and counts nothing twice. Exit code 2: nothing was done.
    """
    config = settings.load()
    log.setup("ERROR")  # of a run of minutes every pause and alert would be told
    try:
        summary = run(config, file, out, columns, events, within, rules=rules)
    except ModuleNotFoundError as exc:
        fail(f"{exc.name} is not installed: pip install 'newsquake[train,local]'")
    except KeyboardInterrupt:
        fail("stopped; the scores so far are kept, and the same command goes on")
    click.echo(summary)


def run(
    config: settings.Settings,
    file: Path,
    out: Path,
    columns: dict[str, str | None],
    events: Path | None,
    within_h: float,
    load_scorer: Callable[[], Scoring] | None = None,
    rules: Path | None = None,
) -> str:
    """Do all of it; return what to say at the end. A mistake ends the process with a message."""
    from redis import RedisError

    from alerts.rules import Rules
    from alerts.rules_file import RulesError
    from alerts.sessions import ExchangeError
    from deploy.local.errors import LocalError
    from deploy.local.servers import LocalValkey
    from ingest.settings import ReplaySettings
    from model.errors import ModelError
    from model.later import scorer_of
    from stream import backtest as core
    from stream import backtest_report as report
    from stream.course import Course
    from stream.events import judge, read_events
    from stream.history import History, HistoryError, columns_of

    known: list[Known] = []
    unreadable: list[str] = []
    verdict: Verdict | None = None
    try:
        if events is not None:
            known, unreadable = read_events(events)
        chosen = columns_of(file, columns)
        alerts, notes = config.alerts.model_copy(update={"rules": rules or config.alerts.rules}), []
        if alerts.rules is not None:
            Rules.load(alerts, alerts.rules)  # said at once, before anything is scored
        if not chosen.publisher and alerts.surge.minimum_publishers > 1:
            surge = alerts.surge.model_copy(update={"minimum_publishers": 1})
            alerts = alerts.model_copy(update={"surge": surge})
            notes.append("No column says who published an item, so one publisher is enough to alert here.")
        out.mkdir(parents=True, exist_ok=True)
        replay = ReplaySettings(file=file, columns=chosen, name="backtest", publisher="unknown")
        with closing(History(out / KEPT)) as history, shown_stages() as show:
            taken = history.read(replay, future_s=config.stream.future_s, on_rows=lambda n: show("reading rows", n, 0))
            show("making ready", 0, 0)  # with the model, where anything has to be scored
            scorer = load_scorer() if load_scorer is not None else scorer_of(config.model)
            done = 0

            def on_texts(more: int) -> None:
                nonlocal done
                done += more
                show("items", done, taken.items)

            kept = history.scorer(scorer, on_texts)
            with (
                tempfile.TemporaryDirectory(prefix="newsquake-backtest-") as scratch,
                LocalValkey(Path(scratch) / "valkey") as server,
                closing(Course(Path(scratch) / "course.sqlite")) as course,
            ):
                result = asyncio.run(
                    core.backtest(
                        history,
                        kept,
                        course,
                        redis_url=server.url,
                        partitions=config.kafka.partitions,
                        alerts=alerts,
                        stream=config.stream,
                        on_days=lambda n, days: show("days judged", n, days),
                    )
                )
                if known:
                    verdict = judge(
                        result.alerts, known, unreadable, first=result.first, last=result.last, within_h=within_h
                    )
                show("drawing the report", 0, 0)
                about = report.About(
                    file=file.name,
                    model=scorer.version,
                    columns=chosen.model_dump(),
                    settings=_shown(alerts.model_dump(exclude={"receivers"})),
                    notes=notes,
                )
                report.write(
                    out,
                    result,
                    about=about,
                    taken=taken,
                    history=history,
                    course=course,
                    events=known,
                    verdict=verdict,
                )
    except (HistoryError, RulesError, ExchangeError, LocalError, ModelError, RedisError, OSError, sqlite3.Error) as exc:
        fail(exc)
    return _told(taken, result, kept.asked, out, [*notes, *(f"{events}: {each}" for each in unreadable[:5])])


def _told(taken: Input, result: Result, asked: int, out: Path, lines: list[str]) -> str:
    from stream import backtest_report as report

    lines = [*lines, f"{taken.items:,} items of {taken.rows:,} rows, {asked:,} texts scored anew"]
    if taken.bad:
        lines.append(f"{taken.bad:,} bad rows were left out, see {out / report.BAD_ROWS}")
    if result.unscored:
        lines.append(f"{len(result.unscored):,} items could not be scored: {result.unscored[0].reason}")
    lines.append(f"{len(result.alerts)} alerts: {out / report.ALERTS}")
    return "\n".join([*lines, f"report: {out / report.REPORT}"])


def _shown(values: dict[str, Any], start: str = "") -> dict[str, Any]:
    """Flatten nested settings to `surge.threshold_z` and its like."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _shown(value, f"{start}{name}.") if isinstance(value, dict) else {f"{start}{name}": value}
    return flat
