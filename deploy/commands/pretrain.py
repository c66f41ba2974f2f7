"""`newsquake pretrain`: continue an encoder on texts without labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deploy.commands._options import fail, options_of, settings_of
from deploy.commands._progress import shown_progress
from model.errors import ModelError
from model.settings import PretrainSettings


@click.command()
@options_of(PretrainSettings)
def pretrain(config: Path | None, **options: Any) -> None:
    """Let an encoder read your texts, guessing hidden words, before it is trained on labels.

    OUT is then a folder for `newsquake train --encoder OUT`, and for NEWSQUAKE_MODEL__ENCODER when those weights score.
    """
    settings = settings_of(PretrainSettings, config, options)
    try:
        from model.pretrain import pretrain as run

        with shown_progress() as (say, on_step):
            run(settings, say, on_step)
    except ModelError as exc:
        fail(exc)
    except ModuleNotFoundError as exc:
        fail(f"{exc.name} is not installed: pip install 'newsquake[train]'")
