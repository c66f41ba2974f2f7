"""`newsquake backtest`: a history through the same code that runs live, and a report."""

from __future__ import annotations

import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy import log, settings
from deploy.commands._options import fail
from deploy.commands._progress import OnStage, shown_stages

if TYPE_CHECKING:
    from alerts.alert import Alert
    from alerts.settings import AlertsSettings
    from ingest.settings import ReplayColumns
    from stream.backtest import Result
    from stream.batch import Scoring
    from stream.course import Course
    from stream.events import Verdict
    from stream.history import Input
    from stream.kept_windows import KeptWindows
    from stream.variants import Tried

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
KEPT = "backtest.sqlite"
_SCRATCH = "newsquake-backtest-"


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
@click.option("--anew", is_flag=True, help="Judge anew what was judged with the same rules and settings before.")
@click.option(
    "--try",
    "tries",
    multiple=True,
    metavar="SETTING=VALUE,VALUE",
    help="Judge with each of these values too, all at once: alerts.surge.threshold_z=3.3,4. Of several, all pairs.",
)
def backtest(
    file: Path,
    out: Path,
    rules: Path | None,
    events: Path | None,
    within: float,
    anew: bool,
    tries: tuple[str, ...],
    **columns: str | None,
) -> None:
    """Put the time-stamped items of FILE (.csv, .jsonl, .parquet; .gz) through scoring, windows and detectors.

    Columns that are not named are found by the usual names. Writes alerts.jsonl, a line an alert, and report.html to
    the folder, and keeps cleaned items, scores, windows and the alerts of the latest runs there: the next run, with
    other settings or after a kill, reads, scores and counts nothing twice, and judges only what it has not judged with
    these rules and settings. Exit code 2: nothing was done; 1: not all of --try could be judged.
    """
    config = settings.load()
    log.setup("ERROR")  # of a run of minutes every pause and alert would be told
    try:
        summary = run(config, file, out, columns, events, within, rules=rules, anew=anew, tries=tries)
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
    anew: bool = False,
    tries: Sequence[str] = (),
) -> str:
    """Do all of it; return what to say at the end. A mistake ends the process with a message."""
    from redis import RedisError

    from alerts.rules_file import RulesError
    from alerts.sessions import ExchangeError
    from deploy.commands._judging import judged, new_server
    from deploy.local.errors import LocalError
    from ingest.settings import ReplaySettings
    from model.errors import ModelError
    from model.later import scorer_of
    from stream import backtest as core
    from stream import backtest_report as report
    from stream.backtest_judging import Setup
    from stream.events import judge, read_events
    from stream.history import History, HistoryError, columns_of
    from stream.variants import AS_SET, Tried, Variant, VariantError, variants_of

    try:
        known, unreadable = read_events(events) if events is not None else ([], [])
        chosen = columns_of(file, columns)
        alerts = config.alerts.model_copy(update={"rules": rules or config.alerts.rules})
        variants = [Variant(AS_SET, alerts), *variants_of(alerts, tries)]
        alerts, notes = _fitting(alerts, chosen)
        # What is wrong with rules is said before anything is scored.
        setups = [Setup.read(_fitting(each.alerts, chosen)[0]) for each in variants]
        out.mkdir(parents=True, exist_ok=True)
        replay = ReplaySettings(file=file, columns=chosen, name="backtest", publisher="unknown")
        with closing(History(out / KEPT)) as history, shown_stages() as show:
            taken = history.read(replay, future_s=config.stream.future_s, on_rows=lambda n: show("reading rows", n, 0))
            show("making ready", 0, 0)  # with the model, where anything has to be scored
            scorer = load_scorer() if load_scorer is not None else scorer_of(config.model)
            kept = history.scorer(scorer, _counter("items", taken.items, show))
            windows = history.windows(kept, config.kafka.partitions, alerts.windows, config.stream)
            counted = core.count(
                history,
                kept,
                windows,
                new_server=new_server,
                partitions=config.kafka.partitions,
                windows=alerts.windows,
                stream=config.stream,
            )
            outcomes = judged(history, windows, counted, setups, show, anew=anew)
            made = counted.made

            def against(alerts: list[Alert]) -> Verdict | None:
                if not known:
                    return None
                return judge(alerts, known, unreadable, first=made.first, last=made.last, within_h=within_h)

            tried = [
                Tried.of(each.name, outcome, made, against) for each, outcome in zip(variants, outcomes, strict=True)
            ]
            report.write_tried(out, tried[1:])
            result, set_as_is = core.Result.of(counted, tried[0].alerts), tried[0]
            if not set_as_is.failure:
                show("drawing the report", 0, 0)
                about = report.About(
                    file=file.name,
                    model=scorer.version,
                    columns=chosen.model_dump(),
                    settings=_shown(alerts.model_dump(exclude={"receivers"})),
                    notes=notes,
                )
                with _course_of(windows) as course:
                    report.write(
                        out,
                        result,
                        about=about,
                        taken=taken,
                        history=history,
                        course=course,
                        events=known,
                        verdict=set_as_is.verdict,
                        tried=tried if tries else (),
                    )
    except VariantError as exc:
        fail(f"--try {exc}")
    except (HistoryError, RulesError, ExchangeError, LocalError, ModelError, RedisError, OSError, sqlite3.Error) as exc:
        fail(exc)
    notes += [f"{events}: {each}" for each in unreadable[:5]]
    return _whole(_told(taken, result, kept.asked, out, notes, tried), tried)


def _whole(told: str, tried: Sequence[Tried]) -> str:
    """Return what to say when all was judged; else say it, and end with what was not."""
    failed = [each for each in tried if each.failure]
    if not failed:
        return told
    click.echo(told)
    for each in failed:
        click.echo(f"newsquake: {each.name} could not be judged: {each.failure}", err=True)
    click.echo("newsquake: the same command judges what is missing, and nothing else", err=True)
    sys.exit(1)


def _counter(stage: str, of: int, show: OnStage) -> Callable[[int], None]:
    """Return what to call with how many more are done."""
    done = 0

    def more(number: int) -> None:
        nonlocal done
        done += number
        show(stage, done, of)

    return more


@contextmanager
def _course_of(windows: KeptWindows) -> Iterator[Course]:
    from stream.course import Course

    with tempfile.TemporaryDirectory(prefix=_SCRATCH) as scratch, closing(Course(Path(scratch) / "course")) as course:
        for counts in windows.all():
            course.add(counts)
        yield course


def _fitting(alerts: AlertsSettings, columns: ReplayColumns) -> tuple[AlertsSettings, list[str]]:
    """Return the settings as these columns allow them, and what to say of what is changed."""
    if columns.publisher or alerts.surge.minimum_publishers == 1:
        return alerts, []
    surge = alerts.surge.model_copy(update={"minimum_publishers": 1})
    note = "No column says who published an item, so one publisher is enough to alert here."
    return alerts.model_copy(update={"surge": surge}), [note]


def _told(taken: Input, result: Result, asked: int, out: Path, lines: list[str], tried: Sequence[Tried]) -> str:
    from stream import backtest_report as report
    from stream.backtest_table import text_of

    lines = [*lines, f"{taken.items:,} items of {taken.rows:,} rows, {asked:,} texts scored anew"]
    if taken.bad:
        lines.append(f"{taken.bad:,} bad rows were left out, see {out / report.BAD_ROWS}")
    if result.unscored:
        lines.append(f"{len(result.unscored):,} items could not be scored: {result.unscored[0].reason}")
    if len(tried) > 1:
        lines += ["", text_of(tried), "", f"alerts of each: {out / report.TRIED}"]
    if tried[0].failure:
        return "\n".join([*lines, "no report: it is of the settings as they are set, which could not be judged"])
    lines.append(f"{len(result.alerts)} alerts: {out / report.ALERTS}")
    return "\n".join([*lines, f"report: {out / report.REPORT}"])


def _shown(values: dict[str, Any], start: str = "") -> dict[str, Any]:
    """Flatten nested settings to `surge.threshold_z` and its like."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _shown(value, f"{start}{name}.") if isinstance(value, dict) else {f"{start}{name}": value}
    return flat
