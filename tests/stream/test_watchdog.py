"""The watchdog ends the process, even one that is stuck in its main thread, and only on a stall."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import logging, sys, threading, time
from stream import watchdog
logging.basicConfig()
answers = iter({answers})
stop = threading.Event()
thread = watchdog.start(lambda: next(answers, {then}), stop, every_s=0.01)
{main}
"""


@pytest.mark.parametrize(
    ("answers", "then", "main", "status"),
    [
        ([[], []], ["partition 3: 7 records wait"], "def stuck_here(): time.sleep(100)\nstuck_here()", 75),
        ([[], []], [], "time.sleep(0.2); stop.set(); thread.join(); sys.exit(0)", 0),
    ],
)
def test_it_ends_the_process_on_a_stall_alone(answers: list[object], then: list[str], main: str, status: int) -> None:
    script = SCRIPT.format(answers=answers, then=then, main=main)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stderr
    if status:
        assert "partition 3: 7 records wait" in done.stderr
        assert "stuck_here" in done.stderr
