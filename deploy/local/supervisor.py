"""Keeps a few programs running, and ends them in order.

Everything is done by the main thread, in a loop that looks at each program a few times a second: on Linux a program is
tied to the thread that started it. Only output is copied by other threads.

A program that ends is started again after 1 s, 2 s, 4 s, up to a minute, each shortened by chance by up to a half, so
that programs that fell together do not rise together; a minute's stable run sets this back. A program that ends with
status 2 before it ever was stable says that its settings are wrong: trying again cannot help, so everything ends.
"""

import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from deploy.local.errors import LocalError
from deploy.local.output import Copier, Show, Stream, show_all
from deploy.local.process import Program, Running

_USAGE_STATUS = 2
_TICK_S = 0.1
_OUTPUT_END_S = 2.0


@dataclass(frozen=True)
class Backoff:
    """How long to wait before a program is started again, in seconds."""

    first_s: float = 1.0
    most_s: float = 60.0
    stable_s: float = 60.0

    def delay_s(self, failures: int, chance: float) -> float:
        """The wait after `failures` (1, 2, …) ends in a row; `chance` in [0, 1) shortens it by up to a half.

        >>> [Backoff().delay_s(n, 0.0) for n in (1, 2, 3, 7, 5000)]
        [1.0, 2.0, 4.0, 60.0, 60.0]
        """
        return min(self.most_s, self.first_s * 2.0 ** min(failures - 1, 30)) * (1 - chance / 2)


@dataclass(frozen=True)
class Child:
    """A program to keep running."""

    program: Program
    stop_s: float = 10.0
    """How long it may take to end after SIGTERM."""
    show: Show = show_all


@dataclass
class _Kept:
    child: Child
    copier: Copier
    running: Running | None = None
    reader: threading.Thread | None = None
    started_at: float = 0.0
    start_at: float | None = None
    failures: int = 0
    was_stable: bool = False

    @property
    def name(self) -> str:
        return self.child.program.name


@dataclass
class Supervisor:
    """Use it as a context manager in the main thread: leaving it ends all that runs, last started first unless ordered.

    SIGINT, SIGTERM and SIGHUP ask it to stop; a second one hurries it. One that is ignored already stays so, as SIGHUP
    under `nohup`.
    """

    stream: Stream
    log_dir: Path | None = None
    backoff: Backoff = Backoff()
    clock: Callable[[], float] = time.monotonic
    stop_order: Sequence[str] = ()
    """Names, first to end first; what is not named ends after those, last started first."""
    _kept: dict[str, _Kept] = field(default_factory=dict)
    _asked: int = 0
    _previous: dict[signal.Signals, object] = field(default_factory=dict)

    def __enter__(self) -> "Supervisor":
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(signum) is not signal.SIG_IGN:
                self._previous[signum] = signal.signal(signum, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._stop_all()
        finally:
            for signum, handler in self._previous.items():
                signal.signal(signum, handler)  # type: ignore[arg-type]  # what signal.signal gave is what it takes back

    def ask_to_stop(self) -> None:
        """Ask to stop; safe in any thread and in a signal handler. A second time hurries."""
        self._asked += 1

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self.ask_to_stop()

    @property
    def stopping(self) -> bool:
        """True once somebody asked to stop, or nobody reads the stream any more."""
        return self._asked > 0 or self.stream.reader_left

    def pid(self, name: str) -> int | None:
        """The pid of `name` while it runs."""
        kept = self._kept.get(name)
        return kept.running.pid if kept and kept.running else None

    def start(self, child: Child) -> None:
        """Starts a program and keeps it running from now on.

        Raises:
            LocalError: a program of that name is kept already.
        """
        name = child.program.name
        if name in self._kept:
            raise LocalError(f"{name} is kept running already.")
        log_file = self.log_dir / f"{name}.log" if self.log_dir else None
        kept = self._kept[name] = _Kept(child, Copier(name, self.stream, log_file, child.show))
        self._start(kept)

    def wait_until(self, problem: Callable[[], str | None], *, what: str, timeout_s: float) -> bool:
        """Keeps all running until `problem()` is None; False when asked to stop meanwhile.

        Raises:
            LocalError: a program can never start, or `timeout_s` is over; says what the problem is.
        """
        deadline = self.clock() + timeout_s
        while not self.stopping:
            self._tick()
            if (reason := problem()) is None:
                return True
            if self.clock() > deadline:
                where = f" Its whole output: {self.log_dir / what}.log" if self.log_dir else ""
                raise LocalError(f"{what} did not answer within {timeout_s:.0f} s: {reason}.{where}")
            time.sleep(_TICK_S)
        return False

    def run(self) -> None:
        """Keeps all running until asked to stop.

        Raises:
            LocalError: a program can never start.
        """
        while not self.stopping:
            self._tick()
            time.sleep(_TICK_S)

    def _tick(self) -> None:
        for kept in self._kept.values():
            if kept.running is not None:
                kept.was_stable = kept.was_stable or self.clock() - kept.started_at >= self.backoff.stable_s
                if (status := kept.running.poll()) is not None:
                    self._ended(kept, status)
            elif kept.start_at is not None and self.clock() >= kept.start_at:
                self._start(kept)

    def _start(self, kept: _Kept) -> None:
        kept.start_at = None
        kept.started_at = self.clock()
        try:
            kept.running = Running(kept.child.program)
        except OSError as exc:  # no memory or no process left: a passing state of the machine
            self._say(f"WARNING cannot start {kept.name}: {exc}")
            self._start_later(kept)
            return
        if kept.running.output is not None:
            kept.reader = kept.copier.copy(kept.running.output)

    def _ended(self, kept: _Kept, status: int) -> None:
        uptime_s = self.clock() - kept.started_at
        kept.running = None
        if kept.reader:
            kept.reader.join(_OUTPUT_END_S)  # what it said last comes before what we say of it
        if status == _USAGE_STATUS and not kept.was_stable:
            raise LocalError(
                f"{kept.name} cannot start (status 2): its settings are wrong, as it says above. "
                f"Mend them and start again; `newsquake doctor` helps."
            )
        if uptime_s >= self.backoff.stable_s:
            kept.failures = 0
        self._say(f"WARNING {kept.name} ended by itself after {uptime_s:.0f} s ({describe(status)})")
        self._start_later(kept)

    def _start_later(self, kept: _Kept) -> None:
        kept.failures += 1
        delay_s = self.backoff.delay_s(kept.failures, random.random())  # noqa: S311
        kept.start_at = self.clock() + delay_s
        self._say(f"{kept.name} starts again in {delay_s:.1f} s")

    def _stop_all(self) -> None:
        if self.stopping and self._kept:
            self._say("stopping; ask again (Ctrl-C) to end at once")
        latest_first = list(reversed(self._kept))
        order = [name for name in self.stop_order if name in self._kept]
        order += [name for name in latest_first if name not in order]
        for name in order:
            kept = self._kept[name]
            if kept.running is not None:
                self._stop(kept, kept.running)
            if kept.reader:
                kept.reader.join(_OUTPUT_END_S)
            kept.copier.close()
        self._kept.clear()

    def _stop(self, kept: _Kept, running: Running) -> None:
        running.signal(signal.SIGTERM)
        deadline = self.clock() + kept.child.stop_s
        while (status := running.poll()) is None:
            hurried = self._asked >= 2
            if hurried or self.clock() > deadline:
                running.kill()
                reason = "in a hurry" if hurried else f"it did not end within {kept.child.stop_s:.0f} s"
                self._say(f"WARNING {kept.name} killed: {reason}")
                break
            time.sleep(_TICK_S / 5)
        else:
            self._say(f"{kept.name} ended ({describe(status)})")
        kept.running = None

    def _say(self, text: str) -> None:
        self.stream.line("up", text)


def describe(status: int) -> str:
    """An exit status in words: `status 1`, `SIGKILL`."""
    if status >= 0:
        return f"status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
