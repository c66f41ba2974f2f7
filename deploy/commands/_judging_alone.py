"""What a process does that judges one setup: a module of its own, so that it starts without the model."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from multiprocessing.connection import Connection
from pathlib import Path

from alerts.alert import Alert
from deploy import log
from stream.backtest_judging import Setup, judge
from stream.kept_windows import KeptWindows, Made

Outcome = list[Alert] | str
"""The alerts, or what kept them from being judged."""


def judge_alone(connection: Connection, windows: Path, made: Made, setup: Setup, redis_url: str) -> None:
    """Judge a copy of what the windows held; tell `connection` how many days are judged, then what came of it."""
    log.setup("ERROR")
    with suppress(BrokenPipeError):  # who started this is gone
        try:
            with closing(sqlite3.connect(f"{windows.as_uri()}?mode=ro", uri=True)) as base:
                kept = KeptWindows(base, "")
                outcome: Outcome = judge(kept, made, setup, redis_url, lambda done, of: connection.send(done))
        except BrokenPipeError:
            raise
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is told beside the variant's name
            outcome = f"{type(exc).__name__}: {exc}"
        connection.send(outcome)
