"""The words of an alert's stories that weighed most, asked of an explainer that must never hold an alert up."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from alerts.alert import Alert
from alerts.metrics import AlertsMetrics

log = logging.getLogger(__name__)

MAX_WORDS = 5  # of a story
_MAX_CHARS = 64  # of a word; a longer one is noise, and a message has a size to keep

Words = Sequence[tuple[str, float]]


class Explainer(Protocol):
    """Says why titles are negative."""

    def __call__(self, titles: Sequence[str]) -> Sequence[Words]:
        """Return for each title words and what each adds to its being negative, the heaviest first; may raise."""


class Explaining:
    """Asks the explainer in a thread, one call at a time, and waits `timeout_s` at most between two renewals."""

    def __init__(self, explainer: Explainer, timeout_s: float, metrics: AlertsMetrics) -> None:
        self._explainer = explainer
        self._timeout_s = self._left_s = timeout_s
        self._metrics = metrics
        self._call: _Call | None = None

    def renew(self) -> None:
        """Allow the whole time to wait again."""
        self._left_s = self._timeout_s

    def explain(self, alerts: Iterable[Alert]) -> list[Alert]:
        """Return the alerts with the words of their stories, or as they are when there is no answer in time."""
        alerts = list(alerts)
        titles = list(dict.fromkeys(story.title for alert in alerts for story in alert.stories))
        words = self._ask(titles) if titles else {}
        return [
            msgspec.structs.replace(
                alert,
                stories=tuple(
                    msgspec.structs.replace(story, words=words.get(story.title, ())) for story in alert.stories
                ),
            )
            for alert in alerts
        ]

    def prepare(self) -> None:
        """Let the explainer load what it needs, once, without waiting: a surge is in sight."""
        if self._call is None:
            self._start([])

    def _ask(self, titles: list[str]) -> dict[str, tuple[tuple[str, float], ...]]:
        begun = time.monotonic()
        if self._call is not None:
            self._call.join(self._left_s)
        if self._call is not None and self._call.is_alive():
            outcome, why = "busy", "the explainer still works on what it was asked before"
        elif (left_s := self._left_s - (time.monotonic() - begun)) <= 0:
            outcome, why = "late", "earlier ones took all the time there is"
        else:
            call = self._start(titles)
            call.join(left_s)
            if call.is_alive():
                outcome, why = "late", f"no answer in {left_s:.1f} s"
            elif call.failure is not None:
                outcome, why = "failed", str(call.failure) or repr(call.failure)
            else:
                outcome, why = "explained", ""
        took_s = time.monotonic() - begun
        self._left_s = max(0.0, self._left_s - took_s) if outcome != "late" else 0.0
        self._metrics.explained.labels(outcome=outcome).inc()
        if why:
            log.warning("alerts go out without the words that weighed most: %s", why)
            return {}
        self._metrics.explain_seconds.observe(took_s)
        return call.answer

    def _start(self, titles: list[str]) -> _Call:
        self._call = _Call(self._explainer, titles)
        self._call.start()
        return self._call


class _Call(threading.Thread):
    """One question. A daemon: an explainer that hangs must not keep the process from ending."""

    def __init__(self, explainer: Explainer, titles: list[str]) -> None:
        super().__init__(name="explainer", daemon=True)
        self._explainer = explainer
        self._titles = titles
        self.answer: dict[str, tuple[tuple[str, float], ...]] = {}
        self.failure: Exception | None = None

    def run(self) -> None:
        """Ask."""
        try:
            found = self._explainer(self._titles)
            self.answer = {t: _bounded(words) for t, words in zip(self._titles, found, strict=True)}
        except Exception as exc:  # noqa: BLE001 - whatever a model raises, the alert goes out
            self.failure = exc


def _bounded(words: Words) -> tuple[tuple[str, float], ...]:
    kept = [(str(word), round(float(weight), 2)) for word, weight in words if len(word) <= _MAX_CHARS]
    return tuple(kept[:MAX_WORDS])
