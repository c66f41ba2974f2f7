"""The rules as they stand now: read again when their file changes, without a restart."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from alerts.metrics import AlertsMetrics
from alerts.rules import Rules
from alerts.rules_file import RulesError, read_bytes
from alerts.settings import AlertsSettings

log = logging.getLogger(__name__)

_EVERY_S = 3.0


class RulesWatch:
    """Holds the rules that are in force. A file that is wrong or gone leaves those that were there before."""

    def __init__(
        self,
        settings: AlertsSettings,
        metrics: AlertsMetrics,
        rules: Rules | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the file for the first time, unless `rules` are given, which stay; without one the settings hold.

        Raises:
            RulesError: it cannot be used.
        """
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._every_s = math.inf if rules is not None or settings.clock == "event" else _EVERY_S
        self._looked_s = clock()
        self._raw, self._said = b"", ""
        self.rules = rules or Rules(settings)
        metrics.rules_valid.set(1)
        if settings.rules is not None and rules is None:
            self._take(read_bytes(settings.rules))

    def renew(self) -> Rules:
        """Look, every few seconds, whether the file has changed; return the rules in force."""
        if self._settings.rules is not None and self._clock() - self._looked_s >= self._every_s:
            self._looked_s = self._clock()
            try:
                raw = read_bytes(self._settings.rules)
                if raw != self._raw or self._said:
                    self._take(raw)
            except RulesError as exc:
                self._metrics.rules_valid.set(0)
                if str(exc) != self._said:
                    log.error("the new rules are not taken, those read before stay in force; mend them:\n%s", exc)
                self._said = str(exc)
        return self.rules

    def _take(self, raw: bytes) -> None:
        if self._settings.rules is None:
            return
        self.rules = Rules.parsed(self._settings, self._settings.rules, raw)
        self._raw, self._said = raw, ""
        self._metrics.rules_valid.set(1)
        self._metrics.rules_loaded_timestamp_seconds.set_to_current_time()
        log.info("%d rules are in force, from %s", len(self.rules), self._settings.rules)
