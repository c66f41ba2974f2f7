"""`newsquake train`: fine-tune the encoder on the labelled sets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.option("--tfns", type=_FOLDER, required=True, help="Folder of Twitter Financial News Sentiment.")
@click.option("--tfnt", type=_FOLDER, required=True, help="Folder of Twitter Financial News Topic.")
@click.option("--sentfin", type=_FOLDER, required=True, help="Folder of SEntFiN 1.0.")
@click.option("--phrasebank", type=_FOLDER, help="Folder of Financial PhraseBank, for evaluation only.")
@click.option("--out", type=_FOLDER, required=True, help="Folder for the checkpoint and the packed weights.")
@click.option("--epochs", type=click.IntRange(1), help="Passes over the training rows; 4 by default.")
@click.option("--seed", type=click.IntRange(0), help="Seed of all random choices; 1 by default.")
@click.option("--threads", type=click.IntRange(0), help="CPU threads; all cores by default.")
@click.option("--version", help="Name of the weights.")
def train(**options: Any) -> None:
    """Fine-tune the model; scores are printed after each epoch and at the end.

    A run that was stopped goes on from its last epoch when started again with the same options. The weights are used by
    setting NEWSQUAKE_MODEL__WEIGHTS to the OUT folder.
    """
    from pydantic import ValidationError

    from model.errors import ModelError
    from model.settings import TrainSettings
    from model.train import train as run

    try:
        run(TrainSettings(**{name: value for name, value in options.items() if value is not None}), progress=click.echo)
    except (ModelError, ValidationError) as exc:
        click.echo(f"newsquake: {exc}", err=True)
        sys.exit(2)
    except ModuleNotFoundError as exc:
        click.echo(f"newsquake: {exc.name} is not installed: pip install 'newsquake[train]'", err=True)
        sys.exit(2)
