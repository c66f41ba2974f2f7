"""How a long run tells how it goes: a bar with the lines above it on a terminal, plain lines or nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress

Say = Callable[[str], None]
OnStep = Callable[[int, int, float], None]
OnStage = Callable[[str, int, int], None]


@contextmanager
def shown_progress() -> Iterator[tuple[Say, OnStep]]:
    """What to call with a line, and with (steps done, steps in all, loss)."""
    if not sys.stderr.isatty():
        yield click.echo, lambda done, of, loss: None
        return
    with _bar(right="loss {task.fields[loss]:.3f}") as bar:
        task = bar.add_task("", total=None, loss=0.0)

        def on_step(done: int, of: int, loss: float) -> None:
            bar.update(task, completed=done, total=of, loss=loss)

        yield lambda line: bar.console.print(line, markup=False, highlight=False, soft_wrap=True), on_step


@contextmanager
def shown_stages() -> Iterator[OnStage]:
    """What to call with a stage, how much of it is done, and of how much (0: unknown)."""
    if not sys.stderr.isatty():
        yield lambda stage, done, of: None
        return
    with _bar(left="{task.description}") as bar:
        task = bar.add_task("", total=None)
        yield lambda stage, done, of: bar.update(task, description=stage, completed=done, total=of or None)


def _bar(*, left: str = "", right: str = "") -> Progress:
    """Return a bar with these words beside it."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    before, after = ([TextColumn(words)] if words else [] for words in (left, right))
    columns = (*before, BarColumn(None), MofNCompleteColumn(), *after, TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))
