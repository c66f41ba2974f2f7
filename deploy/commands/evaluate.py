"""`newsquake evaluate`: what weights are worth, on published sets, our own events and a user's own labels."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from deploy import settings

_FOLDER = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--tfns", type=_FOLDER, help="Folder of Twitter Financial News Sentiment.")
@click.option("--tfnt", type=_FOLDER, help="Folder of Twitter Financial News Topic.")
@click.option("--sentfin", type=_FOLDER, help="Folder of SEntFiN 1.0.")
@click.option("--phrasebank", type=_FOLDER, help="Folder of Financial PhraseBank 1.0.")
@click.option(
    "--labels", type=_FILE, multiple=True, help="File of your own labels, .csv, .jsonl or .parquet; repeatable."
)
@click.option("--weights", type=_FOLDER, multiple=True, help="Folder of weights; repeatable, to compare several.")
@click.option("--out", type=_FOLDER, default="evaluation", show_default=True, help="Folder for report.html and .json.")
@click.option("--few-shot", is_flag=True, help="Also draw the curve of what 50, 200, 1,000 and all labels add.")
@click.option("--baselines/--no-baselines", default=True, show_default=True, help="Judge simple methods too.")
@click.option("--samples", type=click.IntRange(100, 100_000), help="Resamples behind each interval; 2,000 by default.")
@click.option("--perturbed-texts", type=click.IntRange(1), help="Texts of each set that are changed; 500 by default.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON instead of a table.")
def evaluate(weights: tuple[Path, ...], out: Path, as_json: bool, **options: Any) -> None:
    """Judge the model on the sets given and on newsquake's own events, and write a report.

    Without --weights the model that the settings name is judged. A file of labels has the columns text, sentiment
    and/or topic; where it has a column part, only its rows of the part test are judged; where it has a column source,
    each source is reported. Exit code 2: nothing was judged.
    """
    config = settings.load()
    try:
        from model import report
        from model.errors import ModelError
        from model.evaluate import evaluate as run
        from model.settings import EvaluateSettings

        models = [config.model.model_copy(update={"weights": folder}) for folder in weights] or [config.model]
        wanted = EvaluateSettings(**{name: value for name, value in options.items() if value is not None})
        try:
            found = run(wanted, models, progress=lambda text: click.echo(text, err=True))
            page = report.write(found, out)
        except ModelError as exc:
            click.echo(f"newsquake: {exc}", err=True)
            sys.exit(2)
    except ModuleNotFoundError as exc:
        click.echo(f"newsquake: {exc.name} is not installed: pip install 'newsquake[train]'", err=True)
        sys.exit(2)
    click.echo(report.to_json(found).decode() if as_json else report.table(found))
    click.echo(f"report: {page}", err=True)
