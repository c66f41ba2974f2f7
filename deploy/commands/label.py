"""`newsquake label`: corrections from analysts become labels to train on."""

from __future__ import annotations

import json
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy import settings

if TYPE_CHECKING:
    from model.corrections import Taken

_SHOWN = 20


_weight = click.option(
    "--weight",
    type=click.FloatRange(0, min_open=True),
    default=5.0,
    show_default=True,
    help="How much one of these labels counts in training beside a row of a published set.",
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class _TakeUnlessNamed(click.Group):
    """`newsquake label FILE` is `newsquake label take FILE`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            args = ["take", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_TakeUnlessNamed)
def label() -> None:
    """Take corrections from analysts as labels to train on.

    `newsquake label FILE` takes those of a file, `newsquake label export OUT.jsonl` those said on the desk.
    """


@label.command()
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@_weight
@_as_json
def export(out: Path, weight: float, as_json: bool) -> None:
    """Write what analysts said on the desk as labels to OUT, for `newsquake train --labels`.

    It is read from the Kafka topic `feedback`. The labels are worked out as `newsquake label FILE` does, and
    corrections from files that OUT holds already stay. What somebody took back on the desk goes. Labels that the
    present model does not know are left out and shown.

    Exit code 0: all were taken; 1: some were not; 2: nothing could be done.
    """
    from deploy.feedback_history import PREFIX, corrections
    from deploy.servers import kafka_of
    from deploy.topic_history import HistoryError, records
    from model.corrections import known_labels, take
    from model.errors import ModelError
    from model.identity import weights_folder

    config = settings.load()
    try:
        known = known_labels(weights_folder(config.model))
        topic = config.kafka.feedback_topic
        found = corrections(records(kafka_of(config), config.kafka, topic))
        taken = take(found.lines, out, known, weight=weight, now=datetime.now(UTC), replaces=PREFIX)
    except (ModelError, HistoryError, OSError) as exc:
        click.echo(f"newsquake: {exc}", err=True)
        sys.exit(2)
    for line in taken.rejected:
        click.echo(f"newsquake: {topic}, {line}", err=True)
    if found.unlabelled:
        click.echo(
            f"newsquake: {found.unlabelled} say that a label is wrong and not which is right: no label", err=True
        )
    if found.unreadable:
        click.echo(f"newsquake: {found.unreadable} records of {topic} cannot be read", err=True)
    _report(taken, out, show_all=False, as_json=as_json, read=True)
    sys.exit(1 if taken.rejected or found.unreadable else 0)


@label.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True), required=False)
@click.option(
    "--labels",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("labels.jsonl"),
    show_default=True,
    help="The file of labels, for `newsquake train --labels`.",
)
@_weight
@click.option("--new-labels", is_flag=True, help="Take labels that the present model does not know, too.")
@click.option("--list", "show_all", is_flag=True, help="Show the labels and who they are from.")
@_as_json
def take(file: str | None, labels: Path, weight: float, new_labels: bool, show_all: bool, as_json: bool) -> None:
    """Take the corrections of FILE (`-` for standard input) into the labels.

    FILE is JSON Lines: `text`, `sentiment` and/or `topic`, `by` (who says so), `at` (when, RFC 3339), perhaps `id`.
    For one text an author's latest word counts, then what most authors say; what stays even is left out and shown.
    Lines that are wrong are shown and the others taken. All corrections are kept beside the labels.

    Exit code 0: all were taken; 1: some were not; 2: nothing could be done.
    """
    from model.corrections import Known, known_labels, show
    from model.corrections import take as take_in
    from model.errors import ModelError
    from model.identity import weights_folder

    if not file and not show_all:
        raise click.UsageError("give a FILE of corrections, or --list")
    try:
        if file:
            known = Known((), ()) if new_labels else known_labels(weights_folder(settings.load().model))
            with click.open_file(file, "rb") as source:
                taken = take_in(source, labels, known, weight=weight, now=datetime.now(UTC))
        else:
            taken = show(labels)
    except (ModelError, OSError) as exc:
        click.echo(f"newsquake: {exc}", err=True)
        sys.exit(2)
    for line in taken.rejected:
        click.echo(f"newsquake: {file}, {line}", err=True)
    _report(taken, labels, show_all=show_all, as_json=as_json, read=bool(file))
    sys.exit(1 if taken.rejected else 0)


def _report(taken: Taken, path: Path, *, show_all: bool, as_json: bool, read: bool) -> None:
    if as_json:
        report = {
            "new": taken.new,
            "repeated": taken.repeated,
            "rejected": list(taken.rejected),
            "ties": [tie._asdict() for tie in taken.ties],
            "labels": [row._asdict() for row in taken.labels] if show_all else len(taken.labels),
        }
        click.echo(json.dumps(report, ensure_ascii=False, indent=2))
        return
    if show_all:
        for row in taken.labels:
            said = ", ".join(part for part in (row.sentiment, row.topic) if part)
            click.echo(f"{said} ({', '.join(row.authors)}): {row.text}")
    for tie in taken.ties[:_SHOWN]:
        sides = "; ".join(f"{label}: {', '.join(authors)}" for label, authors in tie.votes.items())
        click.echo(f"even, left out: {tie.head} of {tie.text[:120]!r} ({sides})")
    if len(taken.ties) > _SHOWN:
        click.echo(f"and {len(taken.ties) - _SHOWN} more; --json shows all")
    if read:
        click.echo(f"{taken.new} new, {taken.repeated} known before, {len(taken.rejected)} rejected")
    counts = Counter(name for row in taken.labels for name in (row.sentiment, row.topic) if name)
    each = ", ".join(f"{name} {count}" for name, count in counts.most_common())
    click.echo(f"{path}: {len(taken.labels)} texts" + (f" ({each})" if each else ""))
