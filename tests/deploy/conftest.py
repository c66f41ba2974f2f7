"""Helpers of the deploy room's tests."""

import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator

import psutil
import pytest

with warnings.catch_warnings():
    # On Python 3.11 and 3.12 kafka-python reads its schemas, while it is imported, by a function deprecated there.
    warnings.filterwarnings("ignore", "(read|open)_text is deprecated", DeprecationWarning)
    import kafka as _kafka  # noqa: F401


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], None]:
    """Waits until a condition is true; fails after a minute."""

    def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, "it never came true"
            time.sleep(0.02)

    return wait


@pytest.fixture
def gone() -> Callable[[int], bool]:
    """Whether a process is no more, or only waits to be reaped."""

    def check(pid: int) -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    return check


@pytest.fixture
def script() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Runs Python source as a process of its own with a pipe for its output; ends it after the test."""
    started: list[subprocess.Popen[str]] = []

    def run(source: str, *args: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", source, *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()
