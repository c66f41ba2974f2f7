"""`newsquake fetch-encoder`: bring an encoder's files to where newsquake keeps them."""

from __future__ import annotations

import sys

import click

from deploy.commands._options import fail
from model.encoder import MPNET
from model.errors import ModelError


@click.command("fetch-encoder")
@click.argument("name", default=MPNET)
@click.option(
    "--from",
    "source",
    metavar="FOLDER|URL",
    help="A folder with its files, or the address of a mirror of the hub; without it the hub, or HF_ENDPOINT.",
)
def fetch_encoder(name: str, source: str | None) -> None:
    """Bring the encoder NAME from the Hugging Face hub; without NAME that of the size `base`.

    Its SHA-256 is checked where newsquake knows it. A fetch that was cut off goes on when started again.
    """
    try:
        from huggingface_hub.utils.tqdm import disable_progress_bars

        from model.fetch import fetch_encoder as fetch
    except ModuleNotFoundError as exc:
        fail(f"{exc.name} is not installed: pip install 'newsquake[model]'")
    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        fetch(name, source, click.echo)
    except ModelError as exc:
        fail(exc)
