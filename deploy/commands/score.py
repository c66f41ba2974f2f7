"""`newsquake score`: a line of JSON a text."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from deploy import settings

if TYPE_CHECKING:
    from model.score_file import Format


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "--format", "kind", type=click.Choice(["lines", "csv", "jsonl"]), help="Instead of what FILE's name says."
)
@click.option(
    "--column", default="text", show_default=True, help="CSV column, or key of the JSON objects, with the text."
)
def score(file: str, kind: Format | None, column: str) -> None:
    """Score the texts of FILE (`-` for standard input) and print a line of JSON a text, in the order given.

    FILE holds a text a line, CSV with a header (.csv) or JSON objects (.jsonl). Each line has the record's number and
    text; a record that cannot be read gives {"number": ..., "error": ...} in its place.

    Exit code 0: all were scored; 1: some could not be read; 2: nothing could be done.
    """
    config = settings.load()

    from model.errors import ModelError
    from model.score_file import format_of, score_stream
    from model.scorer import Scorer

    try:
        scorer = Scorer.load(config.model)
        with click.open_file(file, "rb") as source:
            summary = score_stream(source, sys.stdout.buffer, scorer, kind or format_of(file), column)
    except ModelError as exc:
        click.echo(f"newsquake: {exc}", err=True)
        sys.exit(2)
    if summary.unreadable:
        click.echo(f"newsquake: {summary.unreadable} of {sum(summary)} records could not be read", err=True)
        sys.exit(1)
