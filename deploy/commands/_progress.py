"""How a long run tells how it goes: a bar with the lines above it on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

Say = Callable[[str], None]
OnStep = Callable[[int, int, float], None]


@contextmanager
def shown_progress() -> Iterator[tuple[Say, OnStep]]:
    """What to call with a line, and with (steps done, steps in all, loss)."""
    if not sys.stderr.isatty():
        yield click.echo, lambda done, of, loss: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (BarColumn(None), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.3f}"))
    console = Console(stderr=True)
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("", total=None, loss=0.0)

        def on_step(done: int, of: int, loss: float) -> None:
            bar.update(task, completed=done, total=of, loss=loss)

        yield lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True), on_step
