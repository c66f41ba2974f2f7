"""`newsquake train`: fine-tune an encoder on labelled sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from alerts.series import SeriesError, series_of
from deploy.commands._options import fail, options_of, settings_of
from deploy.commands._progress import shown_progress
from model.errors import DataError, ModelError
from model.settings import TrainSettings


class _Seeds(click.ParamType):
    name = "1,2,3"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        try:
            seeds = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as 1,2,3", param, ctx)
        if len(set(seeds)) < len(seeds):
            self.fail(f"{value!r} names a seed twice", param, ctx)
        return seeds


@click.command()
@options_of(TrainSettings)
@click.option("--seeds", type=_Seeds(), help="Several runs with these seeds, one after the other, into OUT/seed-N.")
def train(config: Path | None, seeds: tuple[int, ...] | None, **options: Any) -> None:
    """Fine-tune the model on the published sets named and on files of your own labels.

    A run that was stopped goes on from its last checkpoint when started again with the same options. OUT then holds the
    packed weights (use them by NEWSQUAKE_MODEL__WEIGHTS=OUT), run.json, metrics.jsonl, curves.png and result.json.
    """
    settings = settings_of(TrainSettings, config, options)
    try:
        from model.seeds import train_seeds
        from model.train import train as run

        _check_topics(settings)
        with shown_progress() as (say, on_step):
            if seeds:
                train_seeds(settings, seeds, say, on_step)
            else:
                run(settings, say, on_step)
    except ModelError as exc:
        fail(exc)
    except ModuleNotFoundError as exc:
        fail(f"{exc.name} is not installed: pip install 'newsquake[train]'")
    except KeyboardInterrupt:
        fail(f"stopped; the same command goes on from the last checkpoint in {settings.out}")


def _check_topics(settings: TrainSettings) -> None:
    """Refuse, before hours of training, topics that no stream could count."""
    from model.data import read_tfnt
    from model.label_file import read_labels

    sets = {path: read_labels(path) for path in settings.labels}
    if settings.tfnt:
        sets[settings.tfnt] = read_tfnt(settings.tfnt, "train")
    for path, data in sets.items():
        try:
            for topic in data.topic_labels:
                series_of(topic, ())
        except SeriesError as exc:
            raise DataError(f"{path}: {exc}") from exc
