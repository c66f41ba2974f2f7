"""Runs a command on a leash: it does not outlive the process that started it, whatever way that one ends.

    python -I -S leash.py prctl PARENT_PID COMMAND...     Linux: the kernel sends SIGKILL when the parent dies
    python -I -S leash.py pipe  LIFELINE_FD COMMAND...    elsewhere: a watcher kills the process group at end of file

It runs as a script, in a fresh interpreter, because code between fork and exec of a threaded parent can deadlock.
The command replaces it, so the pid and the exit status are the command's own.
"""

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def _tie_to_parent(parent_pid: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"newsquake: prctl failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent_pid:  # it died before the kernel knew of the tie
        sys.exit(1)


def _watch_lifeline(lifeline: int) -> None:
    group = os.getpid()  # the parent started us as the leader of a session of our own
    if os.fork() != 0:
        os.close(lifeline)
        return
    # The watcher holds no stream of the command's, so that readers of those see their end when the command ends.
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    # It outlives the group's polite end, and goes when the parent does, or lets go of the lifeline.
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    while os.read(lifeline, 1):
        pass
    os.killpg(group, signal.SIGKILL)


def main() -> None:
    """See the module's text."""
    kind, number, *command = sys.argv[1:]
    if kind == "prctl":
        _tie_to_parent(int(number))
    else:
        _watch_lifeline(int(number))
    try:
        os.execvp(command[0], command)  # noqa: S606
    except OSError as exc:
        sys.exit(f"newsquake: cannot run {command[0]}: {exc.strerror}")


if __name__ == "__main__":
    main()
