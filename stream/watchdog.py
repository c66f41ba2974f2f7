"""Ends a worker that has stopped making progress, so that its supervisor starts a new one."""

from __future__ import annotations

import faulthandler
import logging
import os
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)
_FROZEN_S = 120.0
STALLED_EXIT_CODE = 75  # EX_TEMPFAIL: trying again helps


def start(stalled: Callable[[], list[str]], stop: threading.Event, every_s: float = 1.0) -> threading.Thread:
    """Ask `stalled` from a thread of its own, which a blocked event loop cannot hold up.

    The process ends hard on a stall: an orderly stop may hang for the very reason of the stall, and nothing is lost,
    since acks come last. Code that holds the interpreter's lock would hold up this thread too: then faulthandler's own
    timer ends the process, with code 1.
    """

    def watch() -> None:
        while not stop.wait(every_s):
            faulthandler.dump_traceback_later(_FROZEN_S, exit=True)
            if reasons := stalled():
                log.critical("stalled, restarting this worker: %s", "; ".join(reasons))
                faulthandler.dump_traceback(all_threads=True)
                logging.shutdown()
                os._exit(STALLED_EXIT_CODE)
        faulthandler.cancel_dump_traceback_later()

    thread = threading.Thread(target=watch, name="watchdog", daemon=True)
    thread.start()
    return thread
