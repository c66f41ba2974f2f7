"""`newsquake detect`: a series of counts in, the same series with an anomaly score out."""

from __future__ import annotations

from pathlib import Path

import click

from deploy.commands._options import fail

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("series", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", type=_FILE, required=True, help="CSV to write: timestamp,value,anomaly_score.")
@click.option("--plot", type=_FILE, help="Picture to write (.png, .svg, .pdf): value, expected band, points.")
def detect(series: Path, out: Path, plot: Path | None) -> None:
    """Score the counts of SERIES, a CSV of `timestamp,value`, from 0 to 1.

    A score uses the rows up to its own. Each episode gets one point over 0, where it is noticed; another within a day
    only where it becomes much rarer. A point of 0.27 is what the series itself shows once a month, 0.5 once a year.
    Exit code 0: scored; 2: a file cannot be read or written, and the message names row and column.
    """
    from alerts.detect import SeriesFileError, Told, read, scored, write

    told = Told()
    try:
        results = list(scored(read(series), told))
        write(out, results)
    except SeriesFileError as exc:
        fail(exc)
    if plot:
        from deploy.series_chart import chart

        try:
            chart(results, series.stem, plot)
        except ModuleNotFoundError as exc:
            fail(f"--plot needs {exc.name}: pip install 'newsquake[train]'")
        except (OSError, ValueError) as exc:
            fail(f"{plot} cannot be written: {exc}")
    click.echo(f"{told.rows} rows, {told.step_s:g} s apart as a rule; {told.points} points")
    if told.gaps:
        click.echo(f"{told.gaps} gaps, {told.gap_s / 3600:.1f} h in all: taken as missing, not as zero")
    if told.missing:
        click.echo(f"{told.missing} rows without a value: taken as missing, scored 0")
    if told.repeated:
        click.echo(f"{told.repeated} rows repeat the time above: added up into the first of it")
    if told.unjudged == told.rows:
        click.echo("all of it is warm-up: nothing could be judged")
