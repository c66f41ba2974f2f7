"""`newsquake promote`: a retrained model takes the present one's place, unless it is worse."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deploy import settings as settings_module
from deploy.settings import Settings

if TYPE_CHECKING:
    from model.promote import Comparison
    from model.store import Store

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@dataclass(frozen=True)
class _Options:
    over: Path | None
    encoder: Path | None
    tfns: Path | None
    tfnt: Path | None
    sentfin: Path | None
    phrasebank: Path | None
    labels: tuple[Path, ...]
    tolerance: float
    calibration_tolerance: float
    confidence: float
    force: bool
    as_json: bool


@click.command()
@click.argument("new", type=_FOLDER, required=False)
@click.option("--over", type=_FOLDER, help="The present weights; by default those in place, or that the settings name.")
@click.option("--into", type=click.Path(file_okay=False, path_type=Path), help="Folder of promoted weights.")
@click.option("--encoder", type=_FOLDER, help="Folder of NEW's encoder, where it is not that of the settings.")
@click.option("--tfns", type=_FOLDER, help="Folder of Twitter Financial News Sentiment, to compare on too.")
@click.option("--tfnt", type=_FOLDER, help="Folder of Twitter Financial News Topic, to compare on too.")
@click.option("--sentfin", type=_FOLDER, help="Folder of SEntFiN 1.0, to compare on too.")
@click.option("--phrasebank", type=_FOLDER, help="Folder of Financial PhraseBank, to compare on too.")
@click.option("--labels", type=_FILE, multiple=True, help="File of labels of your own, kept back, to compare on too.")
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1),
    default=0.005,
    show_default=True,
    help="Fall of accuracy or macro F1 that is let pass on every set.",
)
@click.option(
    "--calibration-tolerance",
    type=click.FloatRange(0, 1),
    default=0.02,
    show_default=True,
    help="Rise of the calibration error that is let pass.",
)
@click.option(
    "--confidence",
    type=click.FloatRange(0.5, 1),
    default=0.95,
    show_default=True,
    help="A fall counts when it shows in this share of resamples of the rows.",
)
@click.option("--force", is_flag=True, help="Promote a worse one all the same.")
@click.option("--rollback", is_flag=True, help="Go back to the weights before; again: forth.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def promote(new: Path | None, into: Path | None, rollback: bool, **options: Any) -> None:
    """Compare the weights in the folder NEW with the present ones and, unless they are worse, put them in place.

    Compared on the test part of newsquake's own events and on the sets given, row by row. The weights then lie in
    `current` in the folder of --into (by default `weights` in local.state_dir), to which model.weights must point, as
    model.encoder must to their encoder; the weights before stay in `previous`. Processes take them when they are
    started again.

    Exit code 0: promoted; 1: refused; 2: they could not be compared or put in place.
    """
    from pydantic import ValidationError

    from model.errors import ModelError
    from model.store import Store

    if bool(new) == rollback:
        raise click.UsageError("give a folder of NEW weights, or --rollback")
    config = settings_module.load()
    store = Store(into or config.local.state_dir / "weights")
    try:
        if new is None:
            now, before = store.roll_back(datetime.now(UTC))
            click.echo(f"{store.current} is now {now}; before it was {before}")
            _say_next(config, store, store.encoder(now))
            return
        promoted = _promote(config, store, new, _Options(**options))
    except (ModelError, ValidationError, OSError) as exc:
        click.echo(f"newsquake: {exc}", err=True)
        sys.exit(2)
    sys.exit(0 if promoted else 1)


def _promote(config: Settings, store: Store, new: Path, options: _Options) -> bool:
    from model.identity import weights_folder
    from model.promote import Limits, compare
    from model.scorer import Scorer
    from model.settings import EvaluateSettings
    from model.store import Weights
    from model.test_sets import read_tasks

    old = options.over or (store.current if store.current.is_dir() else weights_folder(config.model))
    tasks = read_tasks(
        EvaluateSettings(
            tfns=options.tfns,
            tfnt=options.tfnt,
            sentfin=options.sentfin,
            phrasebank=options.phrasebank,
            labels=options.labels,
        )
    )
    encoder = options.encoder or config.model.encoder
    present = Scorer.load(config.model.model_copy(update={"weights": old}))
    retrained = Scorer.load(config.model.model_copy(update={"weights": new, "encoder": encoder}))
    limits = Limits(options.tolerance, options.calibration_tolerance, options.confidence)
    found = compare(tasks, present, retrained, limits)
    promoted = options.force or not found.refused
    if promoted:
        about = {"forced": bool(found.refused), "refused": found.refused, "sets": _as_json(found)["sets"]}
        weights = Weights(retrained.version, new, encoder)
        store.promote(weights, Weights(present.version, old.resolve(), config.model.encoder), datetime.now(UTC), about)
    if options.as_json:
        head = {"promoted": promoted, "new": retrained.version, "old": present.version, "current": str(store.current)}
        head["encoder"] = str(encoder.absolute()) if encoder else None
        click.echo(json.dumps(head | _as_json(found), indent=2, ensure_ascii=False))
        return promoted
    _print(found, f"{retrained.version} over {present.version}")
    if promoted:
        click.echo(f"promoted: {store.current} is now {retrained.version}" + (" (forced)" if found.refused else ""))
        _say_next(config, store, str(encoder.absolute()) if encoder else "")
    else:
        click.echo(f"refused: {present.version} stays; --force promotes all the same")
    return promoted


def _say_next(config: Settings, store: Store, encoder: str | None) -> None:
    """`encoder`: of the weights now current, as `Store.encoder` gives it."""
    if config.model.weights is None or config.model.weights.absolute() != store.current.absolute():
        click.echo(f"set model.weights (NEWSQUAKE_MODEL__WEIGHTS) to {store.current.absolute()}")
    if encoder and (config.model.encoder is None or str(config.model.encoder.absolute()) != encoder):
        click.echo(f"set model.encoder (NEWSQUAKE_MODEL__ENCODER) to {encoder}")
    elif encoder == "" and config.model.encoder is not None:
        click.echo("take model.encoder (NEWSQUAKE_MODEL__ENCODER) out of the settings: these weights need another")
    click.echo("restart what scores: `newsquake stream` (systemctl restart 'newsquake-stream@*') or `newsquake up`")
    click.echo("back again: newsquake promote --rollback")


def _print(found: Comparison, title: str) -> None:
    table = Table("set", title=f"newsquake promote: {escape(title)}", title_justify="left")
    table.add_column("rows", justify="right")
    table.add_column("score")
    for column in ("old", "new", "change (95 %)"):
        table.add_column(column, justify="right")
    for each in found.sets:
        for place, change in enumerate(each.changes):
            moved = f"{change.new - change.old:+.3f} ({change.low:+.3f} to {change.high:+.3f})"
            head = (escape(each.title), f"{each.rows:,}") if place == 0 else ("", "")
            table.add_row(*head, change.score, f"{change.old:.3f}", f"{change.new:.3f}", moved)
    console = Console()
    console.print(table)
    for line in found.left_out:
        console.print(f"not compared: {escape(line)}", highlight=False)
    for line in found.refused:
        console.print(f"worse: {escape(line)}", highlight=False)


def _as_json(found: Comparison) -> dict[str, Any]:
    sets = [
        {"title": each.title, "rows": each.rows, "changes": [change._asdict() for change in each.changes]}
        for each in found.sets
    ]
    return {"sets": sets, "left_out": list(found.left_out), "refused": list(found.refused)}
