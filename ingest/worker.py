"""The worker: a thread a source; fetch, publish, then move the position."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from prometheus_client import CollectorRegistry

from ingest.backoff import Backoff
from ingest.cursor import PositionError, Positions
from ingest.metrics import IngestMetrics
from ingest.publish import Publisher, PublishError
from ingest.settings import IngestSettings
from ingest.sources import Fetched, Source, SourceError, SourceGoneError, SourceSettingsError, build_sources

logger = logging.getLogger(__name__)

T = TypeVar("T")

# A source that stays in one place for so long while a server is away is worth a word in `health`.
_STUCK_S = 60.0
_STATES = ("running", "failing", "waiting", "finished", "gone")


class IngestError(Exception):
    """No source is left, and not because all came to their end."""


class IngestSettingsError(IngestError):
    """The same, because of what the settings say: starting again cannot help."""


class _StoppedError(Exception):
    """A stop came while something was tried again."""


@dataclass
class _Runner:
    """What is known of one source; written by its thread, read by `health`."""

    source: Source
    state: str = "running"
    reason: str = ""
    since: float = 0.0
    misset: bool = False
    thread: threading.Thread | None = None

    @property
    def seen_state(self) -> str:
        """The state, in which a source that runs but is in trouble counts as failing."""
        return "failing" if self.state == "running" and self.source.trouble else self.state


class IngestWorker:
    """Runs the sources that the settings switch on.

    For each batch of a source, in this order: (1) publish it and wait until Kafka acknowledged it; (2) store the
    position after it; (3) ask the source for more. What fails in 1 or 2 is tried again until it works, so nothing is
    skipped; a crash in between brings the batch again, with the same ids. A source has one batch in flight, which
    bounds memory and makes it wait when Kafka is slow.
    """

    def __init__(
        self,
        settings: IngestSettings,
        *,
        bootstrap_servers: str,
        documents_topic: str,
        redis_url: str,
        registry: CollectorRegistry,
        kafka_options: Mapping[str, object] | None = None,
    ) -> None:
        """Prepare, without connecting anywhere.

        Raises:
            ValueError: the list of feeds cannot be read, or two sources share a name.
        """
        self._settings = settings
        self._metrics = IngestMetrics(registry)
        self._publisher = Publisher(
            bootstrap_servers, documents_topic, kafka_options=kafka_options, timeout_s=settings.publish_timeout_s
        )
        self._positions = Positions(redis_url)
        self._runners = [_Runner(source) for source in build_sources(settings, self._metrics)]
        self._not_started = "starting"
        self._stop = threading.Event()
        for state in _STATES:
            self._metrics.sources.labels(state).set_function(partial(self._count, state))

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set or all sources have come to their end; then everything is published and stored.

        Waits at the start until Kafka, the topic and Redis are there.

        Raises:
            IngestError: there is no source, or the last ones are gone for good; `IngestSettingsError` when the
                settings are to blame.
        """
        if not self._runners:
            raise IngestError("no source is switched on: enable rss, bluesky or replay in the settings of ingest")
        self._stop = stop
        try:
            self._try("kafka", self._publisher.connect)
            self._try("redis", self._positions.ping)
            self._not_started = ""
            logger.info("Ingest starts %d sources.", len(self._runners))
            for runner in self._runners:
                runner.thread = threading.Thread(
                    target=self._run, args=(runner,), name=f"ingest {runner.source.name}", daemon=True
                )
                runner.thread.start()
            for runner in self._runners:
                if runner.thread is not None:
                    runner.thread.join()
        except _StoppedError:
            logger.info("Ingest was stopped before it had started.")
        finally:
            self._publisher.close()
            self._positions.close()
        gone = [runner for runner in self._runners if runner.state == "gone"]
        if gone and not stop.is_set():
            error = IngestSettingsError if any(runner.misset for runner in gone) else IngestError
            raise error("; ".join(f"{runner.source.name}: {runner.reason}" for runner in gone))
        logger.info("Ingest has ended: %s.", _summary(self._runners))

    def health(self) -> tuple[list[str], list[str]]:
        """Return why ingest is not live, and why it is not ready; both empty when all is well.

        A single feed that fails makes neither: its metrics tell. Kafka or Redis away, or every source failing, do.
        """
        dead = [
            f"the thread of {runner.source.name} died"
            for runner in self._runners
            if runner.thread is not None
            and not runner.thread.is_alive()
            and runner.state not in {"finished", "gone"}
            and not self._stop.is_set()
        ]
        if self._not_started:
            return dead, [self._not_started]
        reasons = []
        now = time.monotonic()
        if stuck := [r for r in self._runners if r.state == "waiting" and now - r.since > _STUCK_S]:
            reasons.append(f"{len(stuck)} sources wait since more than {_STUCK_S:.0f} s: {stuck[0].reason}")
        if all(runner.seen_state in {"failing", "gone"} for runner in self._runners):
            first = self._runners[0]
            reasons.append(f"every source fails; {first.source.name}: {first.reason or first.source.trouble}")
        return dead, reasons

    def _count(self, state: str) -> int:
        return sum(runner.seen_state == state for runner in self._runners)

    def _run(self, runner: _Runner) -> None:
        """Run one source to its end, starting it again whenever it fails."""
        source, backoff = runner.source, Backoff(1.0, self._settings.max_backoff_s)
        while not self._stop.is_set():
            try:
                position = self._try("redis", lambda: self._positions.load(source.name), runner)
                for fetched in source.run(position, self._stop):
                    self._deliver(runner, fetched)
                    backoff.reset()
                _note(runner, "finished")
                return
            except _StoppedError:
                _note(runner, "finished")
                return
            except SourceGoneError as exc:
                runner.misset = isinstance(exc, SourceSettingsError)
                _note(runner, "gone", str(exc))
                logger.error("%s stops: %s.", source.name, exc)
                return
            except Exception as exc:  # whatever a source runs into must not end the others
                wait_s = backoff.next_s()
                _note(runner, "failing", str(exc) or repr(exc))
                self._metrics.restarts.labels(source.name).inc()
                logger.warning(
                    "%s failed (%r) and starts again in %.1f s.",
                    source.name,
                    exc,
                    wait_s,
                    exc_info=not isinstance(exc, SourceError),
                )
                self._stop.wait(wait_s)
        _note(runner, "finished")

    def _deliver(self, runner: _Runner, fetched: Fetched) -> None:
        name, documents = runner.source.name, fetched.documents
        try:
            if documents:
                started = time.monotonic()
                refused = self._try("kafka", lambda: self._publisher.publish(documents), runner)
                self._metrics.publish_seconds.observe(time.monotonic() - started)
                for document, reason in refused:
                    self._metrics.dropped.labels(name, "refused").inc()
                    logger.error("%s: Kafka will never take document %s (%s); left out.", name, document.id, reason)
                self._metrics.documents.labels(name).inc(len(documents) - len(refused))
                delay = self._metrics.delay_seconds.labels(name)
                for document in documents:
                    delay.observe((document.seen_at - document.published_at).total_seconds())
            self._try("redis", lambda: self._positions.save(name, fetched.position), runner)
        except _StoppedError:
            self._metrics.dropped.labels(name, "unsent").inc(len(documents))
            logger.warning("%s: stopped with %d documents not stored; they are fetched again.", name, len(documents))
            raise

    def _try(self, server: str, action: Callable[[], T], runner: _Runner | None = None) -> T:
        """Return what `action` returns, trying again with growing waits while Kafka or Redis fail.

        Raises:
            _StoppedError: a stop came before it worked.
        """
        backoff = Backoff(0.5, self._settings.max_backoff_s)
        while True:
            try:
                result = action()
            except (PublishError, PositionError) as exc:
                wait_s = backoff.next_s()
                self._metrics.retries.labels(server).inc()
                logger.warning("Waiting for %s: %s. Next try in %.1f s.", server, exc, wait_s)
                if runner is not None:
                    _note(runner, "waiting", f"{server}: {exc}")
                else:
                    self._not_started = f"waiting for {server}: {exc}"
                if self._stop.wait(wait_s):
                    raise _StoppedError from exc
            else:
                if runner is not None:
                    _note(runner, "running")
                return result


def _note(runner: _Runner, state: str, reason: str = "") -> None:
    if runner.state != state:
        runner.since = time.monotonic()
    runner.state, runner.reason = state, reason


def _summary(runners: list[_Runner]) -> str:
    return ", ".join(f"{count} {state}" for state, count in Counter(runner.state for runner in runners).items())
