"""Alerting's loop: seal → read → judge → open or close alerts → store, a minute at a time.

Everything that a minute decides follows from sealed buckets and the state before it. So a crash at any moment is
mended by going back to the last snapshot and judging the minutes since again: alerts get the same ids and revisions,
and `AlertStore.put` takes each revision once, with the transitions that it brings.
"""

from __future__ import annotations

import logging
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence

import msgspec
from prometheus_client import CollectorRegistry
from redis import Redis, RedisError

from alerts.alert import Alert, Event
from alerts.book import Episode
from alerts.buckets import Buckets
from alerts.discovery import Discovery, DiscoverySnapshotError
from alerts.emerging import Emerging, ThemesSnapshotError
from alerts.episodes import Theme
from alerts.evidence import items_of
from alerts.explain import Explainer, Explaining
from alerts.frontier import BEHIND_MIN, Frontier
from alerts.lifecycle import Lifecycle
from alerts.metrics import KINDS, AlertsMetrics
from alerts.now import Now
from alerts.outbox import Outbox, deliveries
from alerts.rules import Rules
from alerts.rules_watch import RulesWatch
from alerts.sender import Sender
from alerts.series import MARKET, THEME, kind
from alerts.settings import AlertsSettings
from alerts.store import AlertStore
from alerts.surge import CALM_Z, Detector, Judgement, SnapshotError
from alerts.webhook import Endpoint
from alerts.windows import COPY, NEGATIVE, Count, WindowItem

log = logging.getLogger(__name__)

_CHUNK_MIN = 60
_EMPTY_MIN = 1_500  # after so many empty minutes all windows are empty and all alerts can be closed
_GAP_MIN = 600
_STUCK_S = 60.0


class _State(msgspec.Struct, frozen=True):
    """The snapshot. Up to `quiet_until` minutes are learnt from, and nobody is told."""

    minute: int
    episodes: list[Episode]
    detector: bytes
    quiet_until: int | None = None
    themes: bytes = b""
    discovery: bytes = b""


class AlertEngine:
    """Watches the windows of `documents_topic` and raises alerts; one process at a time."""

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
    ) -> None:
        """Read the rules that the settings name, unless `rules` are given, which then hold to the end.

        `explainer`, when given, is asked for the words that weighed most in the stories of each new alert.

        Raises:
            RulesError: the file of rules cannot be used.
        """
        self._settings = settings
        self._frontier = Frontier(settings, clock)
        self._redis = Redis.from_url(redis_url, socket_timeout=30, socket_connect_timeout=5)
        self._buckets = Buckets(self._redis, documents_topic, partitions)
        self._store = AlertStore(self._redis)
        self._outbox = Outbox(self._redis)
        self._now = Now(self._redis)
        self._metrics = AlertsMetrics(registry)
        self._watch = RulesWatch(settings, self._metrics, rules)
        self._explaining = (
            Explaining(explainer, settings.explain_timeout_s, self._metrics) if explainer is not None else None
        )
        self._endpoints = [Endpoint(webhook) for webhook in settings.webhooks]
        self._minute: int | None = None
        self._quiet_until: int | None = None  # nobody is told of what was up to this minute
        self._reconcile_at: int | None = None  # when this minute is judged, open alerts and episodes are made one
        self._loaded = False
        self._listed: tuple[int, int, list[WindowItem]] = (0, 0, [])
        self._filled: tuple[int, list[int]] = (0, [])
        self._waiting = ["has not started"]
        self._last_tick = time.monotonic()
        self._last_error = ""
        self._begin()

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; then save the state. While Redis cannot answer, wait and try again."""
        stop_senders = threading.Event()
        senders = [
            threading.Thread(
                target=Sender(endpoint, self._outbox, self._metrics, time.time).run,
                args=(stop_senders,),
                name=f"webhook-{endpoint.id}",
                daemon=True,  # an attempt under way at the end may be cut: it is repeated after the next start
            )
            for endpoint in self._endpoints
        ]
        for thread in senders:
            thread.start()
        wait_s = self._settings.poll_s
        while not stop.is_set():
            try:
                more = self.tick()
            except RedisError as exc:
                # What was decided but not stored is decided again, from the last snapshot.
                self._loaded = False
                self._last_error = f"Redis: {exc}"
                self._metrics.redis_errors.inc()
                wait_s = min(max(wait_s, 0.5) * 2, 30.0)
                log.warning("Redis failed (%s); going back to the last snapshot in %.0f s", exc, wait_s)
                stop.wait(wait_s)
            else:
                self._last_tick, self._last_error = time.monotonic(), ""
                wait_s = self._settings.poll_s
                if not more:
                    stop.wait(wait_s)
        stop_senders.set()
        try:
            if self._loaded:
                self._save()
        except RedisError as exc:
            log.warning("the state could not be saved at the end (%s); it is worked out again at the next start", exc)
        for thread in senders:
            thread.join(timeout=2)
        self._redis.close()

    def health(self) -> tuple[list[str], list[str]]:
        """Return why it is not live and why it is not ready; both empty when all is well."""
        silent_s = time.monotonic() - self._last_tick
        stuck = f"no look at the windows has succeeded for {silent_s:.0f} s; {self._last_error or 'one is under way'}"
        unready = [self._last_error] if self._last_error else []
        return ([stuck] if silent_s > _STUCK_S else []), unready + self._waiting

    def tick(self) -> bool:
        """Seal and judge what is complete, at most an hour of it; return whether more waits.

        Raises:
            redis.RedisError: the server failed; the next call begins at the last snapshot.
        """
        if not self._loaded:
            self._load()
        self._use_rules()
        if self._explaining is not None:
            self._explaining.renew()
        progress = self._buckets.progress()
        reached = self._frontier.reached(progress)
        frontier, waiting = reached.minute, reached.waiting
        if frontier is None:
            self._waiting = waiting
            self._watch_outbox()
            return False
        if self._minute is None:
            filled = [minute for minute in self._buckets.minutes() if minute <= frontier]
            self._minute = filled[0] - 1 if filled else frontier
            if self._settings.clock == "wall" and self._quiet_until is None:
                # Redis may have lost the snapshot with all else: what was told before must not be told again.
                self._quiet_until = self._reconcile_at = frontier
            self._save()  # before the first seal, so that a crash from here on finds where to begin again
        if frontier > self._minute:
            self._buckets.seal(frontier)
            self._minute = self._catch_up(self._minute, frontier)
        if self._reconcile_at is not None and self._minute >= self._reconcile_at:
            self._reconcile(self._minute)
        behind_min = frontier - self._minute
        if behind_min > BEHIND_MIN:
            waiting.append(f"reading history: {behind_min} minutes to go")
        self._waiting = waiting
        self._metrics.behind_seconds.set(max(0.0, reached.now_s - (self._minute + 1) * 60))
        self._watch_outbox()
        self._now.write(self._detector, [episode.alert for episode in self._lifecycle.episodes])
        if time.monotonic() - self._saved >= self._settings.snapshot_s:
            self._save()
        return behind_min > 0

    def _begin(self) -> None:
        self._detector = Detector(self._settings.surge)
        self._discovery = Discovery(self._settings.discovery, self._settings.surge.threshold_z)
        self._lifecycle = Lifecycle(self._settings, self._detector, self._discovery, self._metrics)
        self._emerging = Emerging(self._settings.themes) if self._settings.themes.on else None
        self._minute, self._empty, self._refused = None, 0, 0
        self._forgotten = 0
        self._quiet_until, self._reconcile_at = None, None
        self._saved = time.monotonic()

    def _use_rules(self) -> None:
        rules = self._watch.renew()
        self._detector.rules = rules
        self._lifecycle.use(rules)
        if self._emerging is not None:
            self._emerging.rules = rules

    def _load(self) -> None:
        """Take up the last snapshot; without one, learn again from the buckets and tell nobody about the past."""
        self._begin()
        self._listed, self._filled = (0, 0, []), (0, [])
        sealed = [progress.sealed for progress in self._buckets.progress() if progress.sealed is not None]
        self._reconcile_at = max(sealed, default=None)
        raw = self._store.load_state()
        if raw is not None:
            try:
                state = msgspec.msgpack.decode(raw, type=_State)
                self._detector.restore(state.detector)
                self._minute, self._lifecycle.episodes = state.minute, list(state.episodes)
                if state.quiet_until is not None:
                    self._quiet_until = self._reconcile_at = state.quiet_until
                self._load_themes(state.themes)
                self._load_discovery(state.discovery)
            except (SnapshotError, msgspec.MsgspecError) as exc:
                log.warning("the last snapshot cannot be used (%s); learning again from the windows", exc)
        if self._minute is None:
            self._quiet_until = self._reconcile_at
        known = [endpoint.id for endpoint in self._endpoints]
        if dropped := self._outbox.drop_unknown(known):
            log.warning("%d deliveries are in the dead list: their endpoints are configured no more", dropped)
        self._loaded = True
        if self._minute is None:
            log.info("alerting starts without a history; it learns before it judges")
        else:
            log.info("alerting goes on after minute %d, with %d series", self._minute, self._detector.tracked)

    def _load_themes(self, snapshot: bytes) -> None:
        """Take up the themes; where they cannot be, their open alerts are closed when all is reconciled."""
        if self._emerging is not None and snapshot:
            try:
                self._emerging.restore(snapshot)
                self._forgotten = self._emerging.forgotten
                return
            except ThemesSnapshotError as exc:
                log.warning("the last snapshot of themes cannot be used (%s); learning again", exc)
        episodes = self._lifecycle.episodes
        self._lifecycle.episodes = [episode for episode in episodes if kind(episode.alert.series) != THEME]

    def _load_discovery(self, snapshot: bytes) -> None:
        try:
            if snapshot:
                self._discovery.restore(snapshot)
        except DiscoverySnapshotError as exc:
            log.warning("the last snapshot of tests cannot be used (%s); learning again what is rare", exc)

    def _save(self) -> None:
        if self._minute is not None:
            themes = self._emerging.snapshot() if self._emerging is not None else b""
            detector = self._detector.snapshot()
            tests = self._discovery.snapshot()
            state = _State(self._minute, self._lifecycle.episodes, detector, self._quiet_until, themes, tests)
            self._store.save_state(msgspec.msgpack.encode(state))
        self._saved = time.monotonic()

    def _catch_up(self, minute: int, frontier: int) -> int:
        """Judge what follows `minute`, at most an hour of it, or skip a long gap; return the last minute done."""
        upto, filled = self._filled
        if frontier - minute > _GAP_MIN and upto < min(frontier, minute + _GAP_MIN):
            upto, filled = self._filled = frontier, self._buckets.minutes()
        known = minute < upto
        if known and self._empty >= _EMPTY_MIN and not self._lifecycle.episodes:
            at = bisect_right(filled, minute)
            following = min(filled[at] if at < len(filled) else upto + 1, upto + 1)
            if following - minute > _GAP_MIN:
                log.info("skipping %d minutes without items", following - 1 - minute)
                self._detector.skip_to(following - 1)
                minute = following - 1
        last = min(frontier, minute + _CHUNK_MIN, upto if known else frontier)
        if self._reconcile_at is not None and minute < self._reconcile_at:
            last = min(last, self._reconcile_at)
        minutes = range(minute + 1, last + 1)
        wanted = list(minutes)
        if known:
            full = set(filled[bisect_right(filled, minute) : bisect_right(filled, last)])
            wanted = [each for each in minutes if each in full]
        buckets = dict(zip(wanted, self._buckets.counts(wanted) if wanted else [], strict=True))
        listed = self._listed_negatives(buckets)
        for each in minutes:
            self._judge(each, buckets.get(each, {}), listed.get(each, []))
        return last

    def _judge(self, minute: int, counts: dict[Count, int], listed: Sequence[WindowItem]) -> None:
        begun = time.perf_counter()
        self._empty = 0 if counts else self._empty + 1
        if counts or self._detector.minute:
            judgements = self._detector.update(minute, counts)
            if self._explaining is not None and any(j.state != "warming up" and j.z > CALM_Z for j in judgements):
                self._explaining.prepare()
            tested = self._detector.tested
            self._discovery.observe(
                minute,
                tested.columns,
                tested.strengths,
                tested.negatives,
                self._detector.in_episode(),
                learn=not self._detector.warming_up(),
            )
            changes = self._lifecycle.step(minute, judgements, self._evidence)
            changes += self._lifecycle.step_themes(self._themes(minute, counts, listed))
            if self._quiet_until is None or minute > self._quiet_until:
                explained = self._explain([change.alert for change in changes if change.event == "alert.firing"])
                for change in changes:
                    self._put(explained(change.alert), change.event, change.receivers)
        self._metrics.minutes.inc()
        self._metrics.tick_seconds.observe(time.perf_counter() - begun)

    def _listed_negatives(self, buckets: Mapping[int, Mapping[Count, int]]) -> dict[int, list[WindowItem]]:
        """Read the negative items of those minutes that have some, for the themes."""
        if self._emerging is None:
            return {}
        minutes = [minute for minute, counts in buckets.items() if any(label == NEGATIVE for _, _, label in counts)]
        return dict(zip(minutes, self._buckets.listed(minutes) if minutes else [], strict=True))

    def _themes(self, minute: int, counts: Mapping[Count, int], listed: Sequence[WindowItem]) -> list[Theme]:
        """Return the themes that open or close in a minute with these counts and negative items."""
        if self._emerging is None:
            return []
        market = [(label, count) for (series, _, label), count in counts.items() if series == MARKET and label != COPY]
        negatives = sum(count for label, count in market if label == NEGATIVE)
        return self._emerging.update(minute, sum(count for _, count in market), negatives, listed)

    def _evidence(self, judgement: Judgement) -> list[WindowItem]:
        at, span, listed = self._listed
        if at != judgement.minute or span < judgement.window_min:
            minutes = range(judgement.minute - judgement.window_min + 1, judgement.minute + 1)
            listed = self._buckets.items(minutes)
            self._listed = judgement.minute, judgement.window_min, listed
        return items_of(judgement, listed, self._settings.windows)

    def _explain(self, alerts: list[Alert]) -> Callable[[Alert], Alert]:
        """Ask for the words of new alerts, for their episodes too; return what gives any revision of them the words."""
        if self._explaining is None or not alerts:
            return lambda alert: alert
        stories = {alert.id: alert.stories for alert in self._explaining.explain(alerts)}

        def explained(alert: Alert) -> Alert:
            return msgspec.structs.replace(alert, stories=stories.get(alert.id, alert.stories))

        self._lifecycle.episodes = [
            msgspec.structs.replace(episode, alert=explained(episode.alert)) for episode in self._lifecycle.episodes
        ]
        return explained

    def _put(self, alert: Alert, event: Event | None, receivers: tuple[str, ...] | None) -> None:
        now_s = time.time()  # retries follow the wall clock, whatever the windows do
        told = [
            endpoint.id
            for endpoint, webhook in zip(self._endpoints, self._settings.webhooks, strict=True)
            if receivers is None or webhook.name in receivers
        ]
        messages = deliveries(event, alert, told, now_s) if event else []
        for step in self._store.put(alert, deliveries=messages, now_s=now_s) or ():
            log.info("%s %s: %s", step.event, alert.id, alert.summary)
            if step.event in ("firing", "resolved"):
                counter = self._metrics.opened if step.event == "firing" else self._metrics.resolved
                counter.labels(kind=kind(alert.series)).inc()

    def _reconcile(self, minute: int) -> None:
        """Make the stored open alerts and the open episodes one, when all that had been sealed is judged again.

        They differ after a loss of state or a change of settings.
        """
        stored = {alert.id: alert for alert in self._store.open()}
        by_series = {alert.series: alert for alert in stored.values()}
        untold = []
        for number, episode in enumerate(self._lifecycle.episodes):
            mine = stored.get(episode.alert.id) or by_series.get(episode.alert.series)
            if mine is not None:
                stored.pop(mine.id, None)
                if mine.id != episode.alert.id or mine.revision > episode.alert.revision:
                    self._lifecycle.episodes[number] = msgspec.structs.replace(episode, alert=mine)
            else:
                untold.append(episode)
        explained = self._explain([episode.alert for episode in untold])
        for episode in untold:
            self._put(explained(episode.alert), "alert.firing", episode.receivers)
        for alert in stored.values():
            text = f"{alert.name}: closed, because its course is not known any more (state lost or settings changed)"
            began = int(alert.started_at.timestamp() // 60) - 1
            receivers = self._watch.rules.limits(alert.series, began).receivers
            self._put(self._lifecycle.resolved(alert, minute, text), "alert.resolved", receivers)
        self._reconcile_at = self._quiet_until = None
        self._save()  # or a crash would reconcile once more, and close what opened since

    def _watch_outbox(self) -> None:
        metrics = self._metrics
        waiting = [self._outbox.waiting(endpoint.id) for endpoint in self._endpoints]
        metrics.outbox_depth.set(sum(count for count, _ in waiting))
        now_s = time.time()
        metrics.oldest_due_seconds.set(max((now_s - due for _, due in waiting if due is not None), default=0.0))
        metrics.dead_deliveries.set(self._outbox.dead_count())
        metrics.series.set(self._detector.tracked)
        metrics.refused.inc(max(0, self._detector.refused - self._refused))
        self._refused = self._detector.refused
        metrics.expected_false_share.set(self._discovery.expected_false_share)
        if self._emerging is not None:
            metrics.themes_window_seconds.set(self._emerging.window_min * 60)
            metrics.themes_terms.set(self._emerging.terms)
            metrics.themes_loss.set(self._emerging.loss)
            metrics.themes_forgotten.inc(self._emerging.forgotten - self._forgotten)
            self._forgotten = self._emerging.forgotten
        open_kinds = [kind(episode.alert.series) for episode in self._lifecycle.episodes]
        for name in KINDS:
            metrics.open.labels(kind=name).set(open_kinds.count(name))
