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
        self._call: threading.Thread | None = None

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

    def _ask(self, titles: list[str]) -> dict[str, tuple[tuple[str, float], ...]]:
        if self._call is not None and self._call.is_alive():
            self._metrics.explained.labels(outcome="busy").inc()
            log.warning("alerts go out without the words that weighed most: the explainer still works on earlier ones")
            return {}
        if self._left_s <= 0:
            self._metrics.explained.labels(outcome="late").inc()
            log.warning("alerts go out without the words that weighed most: earlier ones took all the time there is")
            return {}
        answer: dict[str, tuple[tuple[str, float], ...]] = {}
        failure: list[Exception] = []

        def call() -> None:
            try:
                found = self._explainer(titles)
                answer.update((t, _bounded(words)) for t, words in zip(titles, found, strict=True))
            except Exception as exc:  # noqa: BLE001 - whatever a model raises, the alert goes out
                failure.append(exc)

        begun = time.monotonic()
        # A daemon: an explainer that hangs must not keep the process from ending.
        self._call = threading.Thread(target=call, name="explainer", daemon=True)
        self._call.start()
        self._call.join(self._left_s)
        took_s = time.monotonic() - begun
        self._left_s -= took_s
        if self._call.is_alive():
            outcome, self._left_s = "late", 0.0
            log.warning("alerts go out without the words that weighed most: no answer in %.1f s", took_s)
        elif failure:
            outcome = "failed"
            log.warning("alerts go out without the words that weighed most: %s", failure[0] or repr(failure[0]))
        else:
            outcome = "explained"
            self._metrics.explain_seconds.observe(took_s)
        self._metrics.explained.labels(outcome=outcome).inc()
        return dict(answer) if outcome == "explained" else {}


def _bounded(words: Words) -> tuple[tuple[str, float], ...]:
    kept = [(str(word), round(float(weight), 2)) for word, weight in words if len(word) <= _MAX_CHARS]
    return tuple(kept[:MAX_WORDS])
