"""Judging what a backtest counted: one setup in this process, several each in a process of its own."""

from __future__ import annotations

import os
import signal
import tempfile
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import cast

from deploy.commands._judging_alone import Outcome, judge_alone
from deploy.commands._progress import OnStage
from deploy.local.errors import LocalError
from deploy.local.servers import LocalValkey
from stream.backtest import Counted
from stream.backtest_judging import Setup, judge
from stream.history import History
from stream.kept_windows import KeptWindows, Made

SCRATCH = "newsquake-backtest-"
_END_S = 5.0


@contextmanager
def new_server() -> Iterator[str]:
    """A Valkey for one use; gives its URL.

    Raises:
        LocalError: it does not start.
    """
    with tempfile.TemporaryDirectory(prefix=SCRATCH) as scratch, LocalValkey(Path(scratch) / "valkey") as server:
        yield server.url


def judged(
    history: History, windows: KeptWindows, counted: Counted, setups: Sequence[Setup], show: OnStage, *, anew: bool
) -> list[Outcome]:
    """Return what comes of each setup: the alerts that are kept, unless they are to be judged `anew`.

    A single one is judged here, and its errors are raised as `stream.backtest_judging.judge` says.
    """
    kept = history.alerts()
    whole = not counted.unscored  # what was counted is otherwise not what the next run counts
    digests = [setup.digest(windows.made_of) for setup in setups]
    found: dict[str, Outcome] = {}
    missing: dict[str, Setup] = {}
    for digest, setup in zip(digests, setups, strict=True):
        known = kept.get(digest) if whole and not anew else None
        if known is None:
            missing[digest] = setup
        else:
            found[digest] = known
    judge_them = _here if len(setups) == 1 else _beside
    with closing(judge_them(missing, windows, counted.made, show)) as outcomes:
        for digest, outcome in outcomes:
            found[digest] = outcome
            if whole and not isinstance(outcome, str):
                kept.put(digest, outcome)
    return [found[digest] for digest in digests]


def _here(
    setups: Mapping[str, Setup], windows: KeptWindows, made: Made, show: OnStage
) -> Generator[tuple[str, Outcome]]:
    for digest, setup in setups.items():
        with new_server() as url:
            yield digest, judge(windows, made, setup, url, lambda done, of: show("days judged", done, of))


def _beside(
    setups: Mapping[str, Setup], windows: KeptWindows, made: Made, show: OnStage
) -> Generator[tuple[str, Outcome]]:
    """Yield each digest with what came of it, as soon as it is there; as many at once as there are cores."""
    waiting, running = deque(setups.items()), dict[Connection, _Child]()
    days, of = dict.fromkeys(setups, 0), len(setups) * ((made.last - made.first) // 1_440 + 1)
    with tempfile.TemporaryDirectory(prefix=SCRATCH) as scratch, ExitStack() as to_end:
        copy = Path(scratch) / "windows"
        if setups:
            windows.copy_to(copy)
        while waiting or running:
            while waiting and len(running) < _cores():
                digest, setup = waiting.popleft()
                try:
                    child = _Child(digest, setup, copy, made)
                except (LocalError, OSError) as exc:
                    yield digest, str(exc)
                    continue
                to_end.callback(child.end)
                running[child.connection] = child
            show("days judged", sum(days.values()), of)
            for connection in wait(list(running)) if running else ():
                child = running[cast(Connection, connection)]
                heard = child.heard()
                if isinstance(heard, int):
                    days[child.digest] = heard
                    continue
                child.end()
                del running[child.connection]
                yield child.digest, heard


class _Child:
    """A process that judges with one setup, and its server. Both end with this process, and with `end`.

    Start it from the main thread.
    """

    def __init__(self, digest: str, setup: Setup, windows: Path, made: Made) -> None:
        """Start it, on a copy of what the windows held.

        Raises:
            LocalError: the server does not start.
            OSError: the process does not.
        """
        self.digest = digest
        context = get_context("spawn")
        with ExitStack() as opened:
            url = opened.enter_context(new_server())
            self.connection, theirs = context.Pipe(duplex=False)
            opened.callback(self.connection.close)
            arguments = (theirs, windows, made, setup, url)
            self._process = context.Process(target=judge_alone, args=arguments, daemon=True)
            with closing(theirs), _unheard():  # closed here, so that this end hears when the process has ended
                self._process.start()
            self._opened = opened.pop_all()

    def heard(self) -> int | Outcome:
        """Return how many days are judged, or what came of it."""
        try:
            heard: int | Outcome = self.connection.recv()
        except (EOFError, OSError):
            self._process.join(_END_S)
            code = self._process.exitcode
            if code is None or code >= 0:
                return f"its process ended with exit code {code}"
            return f"its process was killed ({signal.Signals(-code).name})"
        return heard

    def end(self) -> None:
        """End both, whatever they are at; a second call does nothing."""
        self._process.kill()  # nothing of it is kept
        self._process.join()
        self._opened.close()


@contextmanager
def _unheard() -> Iterator[None]:
    """Processes started here do not hear Ctrl-C, which a terminal sends to all: this one ends them."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
