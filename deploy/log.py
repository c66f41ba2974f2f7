"""Log lines of a process: time, level, what happened; libraries at warning level."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from types import TracebackType

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
_CALM_S = 10.0
_CALM_LIMIT = 1_000
_SLOW = ("kafka.net.selector", "mode.timers")  # warn of any pause over 0.1 s, which a busy machine makes
_OURS = ("ingest", "stream", "model", "alerts", "deploy")


class _OneLine(logging.Formatter):
    """A record is one line unless it carries a traceback; control characters of hostile text are escaped in both."""

    converter = staticmethod(time.gmtime)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's own name
        return _escaped(super().formatMessage(record))

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802  # logging's own name
        # Lines of hostile text cannot be told from the traceback's own; indented, none of them passes for a record.
        return "\n".join(f"  {_escaped(line)}" for line in super().formatException(ei).split("\n"))


def _escaped(line: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


class _Calm(logging.Filter):
    """Lets a library say the same thing once in ten seconds, and says how often it would have said it.

    While a broker is away aiokafka repeats itself a hundred times a second.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether the record is printed."""
        if record.name.split(".")[0] in _OURS:
            return True
        if record.levelno < logging.ERROR and record.name.startswith(_SLOW):
            return False
        what, now = (record.name, str(record.msg)), self._clock()
        said_at, held = self._said.get(what, (float("-inf"), 0))
        if now - said_at < _CALM_S:
            self._said[what] = (said_at, held + 1)
            return False
        if len(self._said) >= _CALM_LIMIT:
            self._said.clear()
        self._said[what] = (now, 0)
        if held:
            record.msg = f"{record.msg} (and {held} times more before)"
        return True


def setup(level: str) -> None:
    """Send all log lines to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(asctime)sZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"))
    handler.addFilter(_Calm())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(True)
    for room in _OURS:
        logging.getLogger(room).setLevel(level)
