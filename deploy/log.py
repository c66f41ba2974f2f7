"""Log lines of a process: time, level, what happened; libraries at warning level."""

from __future__ import annotations

import logging
import sys
import time

_OURS = ("ingest", "stream", "model", "alerts", "deploy")


class _OneLine(logging.Formatter):
    """A record is one line unless it carries a traceback; control characters of hostile text are escaped."""

    converter = staticmethod(time.gmtime)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's own name
        line = super().formatMessage(record)
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def setup(level: str) -> None:
    """Send all log lines to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(asctime)sZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(True)
    for room in _OURS:
        logging.getLogger(room).setLevel(level)
