"""Alerting as a process: stand by, lead, work, and give way. Here its parts are put together.

Any number of processes may run. One leads (`alerts.leader`): it judges, tells and sends. The others stand by and are
ready; when the leader is gone, one of them goes on from what it left in Redis, within seconds.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable

from prometheus_client import CollectorRegistry
from redis import RedisError
from redis.exceptions import ResponseError

from alerts.channels.table import channel_of
from alerts.dispatch import Dispatcher
from alerts.engine import AlertEngine
from alerts.explain import Explainer
from alerts.feedback_rebuild import FeedbackRebuild
from alerts.leader import TTL_S, Leader
from alerts.life import SEVERITIES
from alerts.outbox import Outbox
from alerts.publish import KafkaPlace, Publisher
from alerts.rebuild import RebuildError, lost_all, rebuild
from alerts.rules import Rules
from alerts.sender import Sender
from alerts.settings import AlertsSettings
from alerts.store import AlertStore, FencedError

log = logging.getLogger(__name__)

_STUCK_S = 60.0
_STAND_S = 1.0  # between two tries to lead, at most
_WATCH_S, _WATCH_AGAIN_S = 1.0, 30.0
_AWAY_S = 5.0  # between two looks whether Redis is back, at most
_ENDS_S = 2.0  # for all parts together: an attempt under way after it may be cut, and is repeated


class Alerting:
    """Runs the engine and all that follows it, in the process that leads."""

    def __init__(
        self,
        settings: AlertsSettings,
        *,
        redis_url: str,
        documents_topic: str,
        partitions: int,
        registry: CollectorRegistry,
        explainer: Explainer | None = None,
        rules: Rules | None = None,
        clock: Callable[[], float] = time.time,
        lead_s: float = TTL_S,
        desk_url: str = "",
        kafka: KafkaPlace | None = None,
        feedback: FeedbackRebuild | None = None,
    ) -> None:
        """Take what `AlertEngine` takes. A leader that says nothing for `lead_s` leads no more.

        Messages link to the desk at `desk_url`. Alerts are published to the topic at `kafka`, and put back from it
        when Redis has lost all; so is what analysts said, by `feedback`.

        Raises:
            RulesError: the file of rules cannot be used.
        """
        self._settings, self._desk_url, self._kafka, self._feedback = settings, desk_url, kafka, feedback
        self._engine = AlertEngine(
            settings,
            redis_url=redis_url,
            documents_topic=documents_topic,
            partitions=partitions,
            registry=registry,
            explainer=explainer,
            rules=rules,
            clock=clock,
            token=lambda: self._leader.token(),  # noqa: PLW0108 - it comes after the engine, whose metrics it takes
        )
        self._redis = self._engine.redis
        self._metrics = self._engine.metrics
        self._leader, self._lead_s = Leader(redis_url, self._metrics, ttl_s=lead_s), lead_s
        self._outbox, self._store = Outbox(self._redis, self._metrics), AlertStore(self._redis)
        self._channels = [channel_of(receiver) for receiver in settings.receivers]
        self._last_look = time.monotonic()
        self._last_error = ""
        self.standing_by = False
        self._dispatcher: Dispatcher | None = None

    def run(self, stop: threading.Event) -> None:
        """Work, or stand by, until `stop` is set. While Redis cannot answer, wait and try again."""
        wait_s = stand_s = min(_STAND_S, self._lead_s / 5)
        while not stop.is_set():
            try:
                if self._leader.stand():
                    self._lead(stop)
                elif not self.standing_by:
                    self.standing_by = True
                    log.info("standing by: another process leads alerting")
                wait_s, self._last_error = stand_s, ""
            except RedisError as exc:
                wait_s = min(self._failed(exc, wait_s), _AWAY_S)
            except Exception as exc:  # the lead is given up: another process may fare better, or this one next time
                wait_s = min(self._backed_off(wait_s), _AWAY_S)
                self._last_error = f"alerting cannot be led: {exc!r}"
                self._unexpected("leading")
                log.exception("leading: unexpected failure; standing anew in %.0f s", wait_s)
            self._last_look = time.monotonic()
            stop.wait(wait_s)
        self._leader.close()
        self._engine.close()

    def health(self) -> tuple[list[str], list[str]]:
        """Return why it is not live and why it is not ready; both empty when all is well, standing by too."""
        silent_s = time.monotonic() - self._last_look
        stuck = f"no look at the windows has succeeded for {silent_s:.0f} s; {self._last_error or 'one is under way'}"
        unready = [self._last_error] if self._last_error else []
        waiting = [] if self.standing_by else self._engine.waiting
        if not self.standing_by and self._dispatcher is not None and self._dispatcher.failing:
            unready.append(self._dispatcher.failing)
        return ([stuck] if silent_s > _STUCK_S else []), unready + waiting

    def notes(self) -> list[str]:
        """Return what one should know of it though nothing is wrong."""
        return ["standing by: another process leads alerting"] if self.standing_by else []

    def _lead(self, stop: threading.Event) -> None:
        """Work until `stop` is set or the lead is lost; raise what a thread failed with that nobody foresaw.

        However it ends, the lead is given up: what works no more must not keep others from it.
        """
        self.standing_by = False
        resigned, over = threading.Event(), threading.Event()
        failures, threads = list[Exception](), list[threading.Thread]()

        def part(run: Callable[[threading.Event], None], until: threading.Event) -> None:
            try:
                run(until)
            except Exception as exc:  # noqa: BLE001 - it is raised where all of them have ended
                failures.append(exc)
            finally:
                over.set()  # at once, and for all parts: the rest would go on without what this one was refused

        keeper = threading.Thread(target=part, args=(self._leader.keep, resigned), name="leader", daemon=True)
        try:
            keeper.start()
            threads += [
                threading.Thread(target=part, args=(run, over), name=name, daemon=True) for name, run in self._parts()
            ]
            self._engine.forget()
            self._rebuild(stop)
            if dropped := self._outbox.drop_unknown([channel.name for channel in self._channels], time.time()):
                log.warning("%d deliveries are in the dead list: their receivers are configured no more", dropped)
            for thread in threads:
                thread.start()
            self._work(stop, over)
        except FencedError:
            log.warning("another process leads alerting; what this one was about to write was refused")
        finally:
            over.set()
            until = time.monotonic() + _ENDS_S
            for thread in threads:
                if thread.ident is not None:
                    thread.join(max(0.0, until - time.monotonic()))
            for channel in self._channels:
                self._metrics.oldest_due_seconds.labels(receiver=channel.name).set(0)  # who leads next says it
            resigned.set()
            if keeper.ident is None:  # it could not begin; now it has nothing to do but to give up the lead
                keeper.run()
            else:
                keeper.join(timeout=10)
        if failures:
            raise failures[0]

    def _rebuild(self, stop: threading.Event) -> None:
        """Put alerts back from Kafka when Redis has lost all: else they would be told anew, or their ends to nobody.

        An empty Redis has nothing to judge either until Kafka answers, so that waiting for it costs nothing.
        """
        wait_s = _STAND_S
        while self._kafka is not None and not (stop.is_set() or self._leader.lost.is_set()) and lost_all(self._redis):
            try:
                done = rebuild(self._redis, self._kafka)
            except RebuildError as exc:
                wait_s = min(wait_s * 2, 30.0)
                self._last_error = f"Redis has lost all, and alerts cannot be put back: {exc}"
                self._last_look = time.monotonic()
                log.warning("%s; next try in %.0f s", self._last_error, wait_s)
                stop.wait(wait_s)
            else:
                self._last_error = ""
                log.info("Redis had no alerts; from Kafka came %d alerts and %d silences", done.alerts, done.silences)
                self._rebuild_feedback()
                return

    def _rebuild_feedback(self) -> None:
        """Put back what analysts said; no alert waits for it."""
        if self._feedback is None:
            return
        try:
            words, acts, _ = self._feedback.run(self._redis)
        except RebuildError as exc:
            log.warning("what analysts said cannot be put back (%s); `newsquake alerts rebuild` tries again", exc)
        else:
            log.info("from Kafka came %d words of analysts, and what they did about %d alerts", words, acts)

    def _parts(self) -> list[tuple[str, Callable[[threading.Event], None]]]:
        """What runs beside the engine, each in a thread of its own."""
        dispatcher = self._dispatcher = Dispatcher(
            self._redis,
            lambda: self._engine.watch.rules,
            self._metrics,
            self._leader.token,
            desk_url=self._desk_url,
            singly={channel.name for channel in self._channels if not channel.digests},
        )

        def dispatch(stop: threading.Event) -> None:
            dispatcher.run(stop, self._engine.now)

        senders = [
            (f"sender-{channel.name}", Sender(channel, self._outbox, self._metrics, time.time).run)
            for channel in self._channels
        ]
        parts: list[tuple[str, Callable[[threading.Event], None]]] = [("dispatcher", dispatch), *senders]
        if self._kafka is not None:
            publisher = Publisher(self._redis, self._kafka, self._metrics, self._leader.token)
            parts.append(("publisher", publisher.run))
        return parts

    def _work(self, stop: threading.Event, over: threading.Event) -> None:
        wait_s = self._settings.poll_s
        watch_s = 0.0
        while not (stop.is_set() or over.is_set()):
            try:
                more = self._engine.tick()
                if time.monotonic() >= watch_s:
                    watch_s = time.monotonic() + self._watched()
            except RedisError as exc:
                wait_s = self._failed(exc, wait_s)
                stop.wait(wait_s)
            except FencedError:
                raise
            except Exception as exc:  # what judging cannot do must not keep what it has done from being told
                wait_s = self._backed_off(wait_s)
                self._last_error, self._last_look = f"nothing is judged: {exc!r}", time.monotonic()
                self._unexpected("judging")
                log.exception("judging: unexpected failure; going back to the last snapshot in %.0f s", wait_s)
                stop.wait(wait_s)
            else:
                self._last_look, self._last_error = time.monotonic(), ""
                wait_s = self._settings.poll_s
                if not more:
                    stop.wait(wait_s)
        if not self._leader.lost.is_set():
            try:
                self._engine.save()
            except RedisError as exc:
                log.warning("the state could not be saved at the end (%s); it is worked out again at the start", exc)

    def _failed(self, exc: RedisError, wait_s: float) -> float:
        """Note a failure of Redis; return how long to wait."""
        wait_s = self._backed_off(wait_s)
        self._last_error = f"Redis: {exc}"
        self._metrics.redis_errors.inc()
        log.warning("Redis failed (%s); going back to the last snapshot in %.0f s", exc, wait_s)
        return wait_s

    def _unexpected(self, part: str) -> None:
        """Count an error that nobody foresaw."""
        self._metrics.unexpected_errors.labels(part=part).inc()

    def _watched(self) -> float:
        """Set the metrics; return in how many seconds to do so again."""
        try:
            self._watch()
        except Exception as exc:  # what cannot be shown must not keep alerts from being judged
            if isinstance(exc, RedisError) and not isinstance(exc, ResponseError):
                raise  # Redis is away; else it answers, and what stands there is not what is asked for
            self._unexpected("watching")
            log.exception("metrics of people and deliveries: unexpected failure; again in %.0f s", _WATCH_AGAIN_S)
            return _WATCH_AGAIN_S
        return _WATCH_S

    @staticmethod
    def _backed_off(wait_s: float) -> float:
        return min(max(wait_s, 0.5) * 2, 30.0)

    def _watch(self) -> None:
        """Set the metrics of the outbox, and of how people stand to what is open."""
        metrics = self._metrics
        lives = self._store.lives()
        states = Counter("silenced" if life.silence else life.state for life in lives)
        for state in ("firing", "acknowledged", "silenced"):
            metrics.lives.labels(state=state).set(states[state])
        for severity in SEVERITIES:
            waiting_since = [life.unheard_since for life in lives if life.unheard_since and life.severity == severity]
            longest_s = self._engine.now() - min(waiting_since).timestamp() if waiting_since else 0.0
            metrics.unheard_seconds.labels(severity=severity).set(max(0.0, longest_s))
        now_s, depth = time.time(), 0
        for channel in self._channels:
            count, due_s = self._outbox.waiting(channel.name)
            depth += count
            # What a receiver that is down has due is meant to wait; `receiver_up` tells of it.
            late_s = now_s - due_s if due_s is not None and self._outbox.down(channel.name) is None else 0.0
            metrics.oldest_due_seconds.labels(receiver=channel.name).set(max(0.0, late_s))
        metrics.outbox_depth.set(depth)
        metrics.dead_deliveries.set(self._outbox.dead_count())
