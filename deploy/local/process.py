"""Starting and ending one program on this machine, so that nothing of it is ever left behind."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

_LEASH = Path(__file__).with_name("leash.py")

Tie = Literal["prctl", "pipe"]
"""How a program notices that its parent died: by the kernel (Linux), or by the end of a pipe (elsewhere)."""


@dataclass(frozen=True)
class Program:
    """What to run: the command, what it adds to the environment, and where."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None


class Running:
    """A started program, in a session of its own, killed by the machine when the starting process dies.

    Start it from the main thread: on Linux the tie is to the thread that started it.
    """

    def __init__(self, program: Program, *, output: int | IO[bytes] = subprocess.PIPE, tie: Tie | None = None) -> None:
        """Starts `program`; stdout and stderr go together to `output`.

        Raises:
            OSError: the machine cannot start another process.
        """
        tie = tie or ("prctl" if sys.platform == "linux" else "pipe")
        self._lifeline: int | None = None
        self._swept = False
        read_end: int | None = None
        if tie == "pipe":
            read_end, self._lifeline = os.pipe()
        number = os.getpid() if read_end is None else read_end
        try:
            self._popen = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_LEASH), tie, str(number), *program.argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **program.env},
                cwd=program.cwd,
                start_new_session=True,
                pass_fds=() if read_end is None else (read_end,),
            )
        except BaseException:
            self._let_go()
            raise
        finally:
            if read_end is not None:
                os.close(read_end)

    @property
    def pid(self) -> int:
        """The program's process id, which is its process group's too."""
        return self._popen.pid

    @property
    def output(self) -> IO[bytes] | None:
        """The program's stdout and stderr, when they go to a pipe."""
        return self._popen.stdout

    def poll(self) -> int | None:
        """The exit status once it ended (negative: the signal that ended it), else None."""
        status = self._popen.poll()
        if status is not None:
            self._sweep()
        return status

    def signal(self, signum: signal.Signals) -> None:
        """Sends `signum` to the program alone; it passes on to its own children what they need."""
        if self._popen.poll() is None:
            self._popen.send_signal(signum)

    def wait(self, timeout_s: float | None = None) -> int:
        """The exit status; whatever the program started and left is killed.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        status = self._popen.wait(timeout_s)
        self._sweep()
        return status

    def kill(self) -> None:
        """Kills the program and all that it started, at once, and waits for its end."""
        self._kill_group()
        self.wait()

    def stop(self, deadline_s: float) -> bool:
        """SIGTERM, and SIGKILL after `deadline_s` seconds; False when it had to be killed."""
        self.signal(signal.SIGTERM)
        try:
            self.wait(deadline_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        return True

    def _sweep(self) -> None:
        # The leader is gone; its group may hold children that it left. Once only: the pid may be another's later.
        if not self._swept:
            self._kill_group()
            self._swept = True
            self._let_go()

    def _kill_group(self) -> None:
        if not self._swept:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # PermissionError: only zombies (macOS)
                os.killpg(self.pid, signal.SIGKILL)

    def _let_go(self) -> None:
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
