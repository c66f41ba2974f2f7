"""Alerting's loop: seal → read → judge → store, a minute at a time.

Everything that a minute decides follows from sealed buckets and the state before it. So a crash at any moment is
mended by going back to the last snapshot and judging the minutes since again: alerts get the same ids and revisions,
and `AlertStore.put` takes each revision once, with the transitions that it brings.
"""

from __future__ import annotations

import logging
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import msgspec
from prometheus_client import CollectorRegistry
from redis import Redis

from alerts.alert import Alert, at_end_of
from alerts.buckets import Buckets, Places, Sealed
from alerts.explain import Explainer
from alerts.frontier import BEHIND_MIN, Frontier
from alerts.judging import Judging, Memory, is_calm
from alerts.lifecycle import moved
from alerts.metrics import AlertsMetrics
from alerts.now import Now
from alerts.records import name_of
from alerts.rules import Rules
from alerts.rules_watch import RulesWatch
from alerts.series import kind
from alerts.settings import AlertsSettings
from alerts.silences import Silences, silence_over
from alerts.store import AlertStore
from alerts.surge import SnapshotError
from alerts.timers import Timers
from alerts.windows import Count, WindowItem

log = logging.getLogger(__name__)

_LOOK_S = 0.25
_CHUNK_MIN = 60
_EMPTY_MIN = 1_500  # after so many empty minutes all windows are empty and all alerts can be closed
_GAP_MIN = 600
_TIMERS_S = 1.0


class _State(Memory, frozen=True, kw_only=True):
    """The snapshot. Up to `quiet_until` minutes are learnt from, and nobody is told."""

    minute: int
    quiet_until: int | None = None


class AlertEngine:
    """Watches the windows of `documents_topic` and raises alerts; one process at a time, see `alerts.service`."""

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
        token: Callable[[], str] = str,
        shown: bool = True,
        windows: Sealed | None = None,
    ) -> None:
        """Read the rules that the settings name, unless `rules` are given, which then hold to the end.

        `explainer`, when given, is asked for the words that weighed most in the stories of each new alert. `token` is
        the leader's, where several processes stand by for one another. Unless `shown`, nothing is written for the desk.
        `windows`, when given, are read instead of the server's.

        Raises:
            RulesError: the file of rules cannot be used.
        """
        self._settings = settings
        self._frontier = Frontier(settings, clock)
        self.redis = Redis.from_url(redis_url, socket_timeout=30, socket_connect_timeout=5)
        self.metrics = AlertsMetrics(registry)
        self.watch = RulesWatch(settings, self.metrics, rules)
        self._buckets = windows or Buckets(self.redis, documents_topic, partitions)
        self._store = AlertStore(self.redis, token)
        self._now = Now(self.redis, token) if shown else None
        self._silences = Silences(self.redis)
        self._timers = Timers(self.redis, self._store, lambda: self.watch.rules, calm_min=settings.surge.calm_min)
        self._clock = clock
        self._judging = Judging(settings, self._buckets, self.metrics, explainer)
        self._minute: int | None = None
        self._quiet_until: int | None = None  # nobody is told of what was up to this minute
        self._reconcile_at: int | None = None  # when this minute is judged, open alerts and episodes are made one
        self._timed = 0.0  # when timers were asked last, by the wall
        self._timing = self._linger = False  # whether they are asked each minute, by the items' clock, and that always
        self._now_s: float | None = None  # by the items' clock
        self._loaded = False
        self.waiting = ["has not started"]
        """Why what it says is not of now; empty when it is."""
        self._begin()

    def tick(self) -> bool:
        """Seal and judge what is complete, for about a quarter of a second; return whether more waits.

        Raises:
            redis.RedisError: the server failed.
            FencedError: another process leads. The next call begins at the last snapshot after either.
        """
        try:
            return self._tick()
        except BaseException:
            self._loaded = False  # what was decided but not stored is decided again
            raise

    def forget(self) -> None:
        """Begin at the last snapshot with the next `tick`: others may have led, or Redis have lost what it had."""
        self._loaded = False

    def save(self) -> None:
        """Store the state, where there is one."""
        if self._loaded:
            self._save()

    def close(self) -> None:
        """Give up the connection."""
        self.redis.close()

    def _tick(self) -> bool:
        if not self._loaded:
            self._load()
        self._judging.renew(self.watch.renew())
        self._tell_time()
        reached = self._frontier.reached(self._buckets.progress())
        frontier, waiting = reached.minute, reached.waiting
        if frontier is None:
            self.waiting = waiting
            self._judging.watch()
            return False
        if self._minute is None:
            filled = [minute for minute in self._buckets.places() if minute <= frontier]
            self._minute = filled[0] - 1 if filled else frontier
            if self._settings.clock == "wall" and self._quiet_until is None:
                # Redis may have lost the snapshot with all else: what was told before must not be told again.
                self._quiet_until = self._reconcile_at = frontier
            self._save()  # before the first seal, so that a crash from here on finds where to begin again
        if frontier > self._minute:
            self._buckets.seal(frontier)
            until = time.monotonic() + _LOOK_S
            more = True
            while more:
                self._minute = self._catch_up(self._minute, frontier)
                more = self._minute not in (frontier, self._reconcile_at) and time.monotonic() < until
        if self._reconcile_at is not None and self._minute >= self._reconcile_at:
            self._reconcile(self._minute)
        behind_min = frontier - self._minute
        if behind_min > BEHIND_MIN:
            waiting.append(f"reading history: {behind_min} minutes to go")
        if -behind_min > BEHIND_MIN:  # sealed minutes are never judged again: until they have passed, none is judged
            waiting.append(f"the clock stood {-behind_min} minutes ahead: nothing is judged until it is there again")
        self.waiting = waiting
        ahead_s = -60.0 * behind_min if -behind_min > BEHIND_MIN else 0.0  # so long nothing is judged
        self.metrics.behind_seconds.set(max(ahead_s, reached.now_s - (self._minute + 1) * 60))
        self._judging.watch()
        if self._now is not None:
            self._now.write(self._judging.detector, [each.alert for each in self._judging.lifecycle.episodes])
        if time.monotonic() - self._saved >= self._settings.snapshot_s:
            self._save()
            self._store.forget_gone()
            if self._reconcile_at is None and self._store.unsure():
                self._reconcile_at = frontier
        return behind_min > 0

    def now(self) -> float:
        """Return the time that alerting goes by, in Unix seconds: the wall's, or the end of the last minute judged.

        Raises:
            redis.RedisError: the server failed, and it is not known yet how far the items' time had come.
        """
        if self._settings.clock == "wall":
            return self._clock()
        if self._now_s is None:
            self._now_s = self._store.load_time() or 0.0
        return self._now_s

    def _tell_time(self) -> None:
        """Make the transitions that are due by the wall, or say which time it is by the items."""
        if self._settings.clock == "event":
            reached_s = 0.0 if self._minute is None else (self._minute + 1) * 60.0
            self._now_s = max(self.now(), reached_s)  # who judges minutes again does not set the clock back
            self._store.save_time(self._now_s)
            self._timing, self._linger = self._timers.needed(), self._timers.linger()
        elif time.monotonic() - self._timed >= _TIMERS_S:
            self._timers.step(datetime.fromtimestamp(self.now(), UTC))
            self._timed = time.monotonic()

    def _begin(self) -> None:
        self._judging.begin()
        self._minute = self._quiet_until = self._reconcile_at = None
        self._empty = 0  # minutes without items
        self._filled: tuple[int, Places, list[int]] = 0, {}, []  # what is known of the minutes up to the first
        self._saved = time.monotonic()

    def _load(self) -> None:
        """Take up the last snapshot; without one, learn again from the buckets and tell nobody about the past."""
        self._begin()
        sealed = [progress.sealed for progress in self._buckets.progress() if progress.sealed is not None]
        self._reconcile_at = max(sealed, default=None)
        raw = self._store.load_state()
        if raw is not None:
            try:
                state = msgspec.msgpack.decode(raw, type=_State)
                self._judging.restore(state)
                self._minute = state.minute
                if state.quiet_until is not None:
                    self._quiet_until = self._reconcile_at = state.quiet_until
            except (SnapshotError, msgspec.MsgspecError) as exc:
                log.warning("the last snapshot cannot be used (%s); learning again from the windows", exc)
        if self._minute is None:
            self._quiet_until = self._reconcile_at
            log.info("alerting starts without a history; it learns before it judges")
        else:
            log.info("alerting goes on after minute %d, with %d series", self._minute, self._judging.detector.tracked)
        if self._settings.clock == "wall":
            self._store.save_time(None)
        else:
            self._now_s = max(self._now_s or 0.0, self._store.load_time() or 0.0)  # who led meanwhile may be further
        self._loaded = True

    def _save(self) -> None:
        if self._minute is not None:
            memory = msgspec.structs.asdict(self._judging.memory())
            state = _State(minute=self._minute, quiet_until=self._quiet_until, **memory)
            self._store.save_state(msgspec.msgpack.encode(state))
        self._saved = time.monotonic()

    def _catch_up(self, minute: int, frontier: int) -> int:
        """Judge what follows `minute`, an hour of it at most, or skip a long gap; return the last minute done."""
        upto, places, filled = self._filled
        if frontier - minute > _GAP_MIN and upto < min(frontier, minute + _GAP_MIN):
            places = self._buckets.places()
            upto, _, filled = self._filled = frontier, places, list(places)
        known = minute < upto
        if known and self._empty >= _EMPTY_MIN and not self._judging.lifecycle.episodes:
            at = bisect_right(filled, minute)
            following = min(filled[at] if at < len(filled) else upto + 1, upto + 1)
            if following - minute > _GAP_MIN:
                log.info("skipping %d minutes without items", following - 1 - minute)
                self._judging.detector.skip_to(following - 1)
                minute = following - 1
        last = min(frontier, minute + _CHUNK_MIN, upto if known else frontier)
        if self._reconcile_at is not None and minute < self._reconcile_at:
            last = min(last, self._reconcile_at)
        wanted: Sequence[int] = range(minute + 1, last + 1)
        if known:
            wanted = filled[bisect_right(filled, minute) : bisect_right(filled, last)]
        known_places = places if known else None
        found = self._buckets.counts(wanted, known_places) if wanted else []
        buckets = {each: counts for each, counts in zip(wanted, found, strict=True) if counts}
        listed = self._judging.listed(buckets, known_places)
        calm: dict[int, Mapping[Count, int]] = {}
        for each, counts in buckets.items():
            if is_calm(counts):
                calm[each] = counts
                continue
            self._pass(minute, each - 1, calm)
            self._judge(each, counts, listed.get(each, []))
            minute, calm = each, {}
        self._pass(minute, last, calm)
        return last

    def _pass(self, minute: int, last: int, calm: Mapping[int, Mapping[Count, int]]) -> None:
        """Judge the minutes after `minute` up to `last`: together, as far as time brings nothing.

        None has a negative item; `calm` are the counts of those that have items, in order.
        """
        while minute < last:
            upto = min(last, self._judging.rests_until())
            if upto > minute and not self._is_timed():
                within = {each: counts for each, counts in calm.items() if minute < each <= upto}
                self._judging.rest(upto, within)
                self._empty = upto - max(within) if within else self._empty + upto - minute
                minute = upto
            else:
                minute += 1
                self._judge(minute, calm.get(minute, {}), [])

    def _judge(self, minute: int, counts: Mapping[Count, int], listed: Sequence[WindowItem]) -> None:
        self._empty = 0 if counts else self._empty + 1
        changes = self._judging.judge(minute, counts, listed)
        if self._quiet_until is None or minute > self._quiet_until:
            explained = self._judging.explain([each.alert for each in changes if each.has_new_stories])
            for change in changes:
                self._put(explained(change.alert))
            if self._is_timed():
                self._timers.step(at_end_of(minute))

    def _is_timed(self) -> bool:
        """Say whether a minute of the items' clock can bring an open alert anything, though nothing surges."""
        return self._timing and (self._linger or bool(self._judging.lifecycle.episodes))

    def _put(self, alert: Alert) -> None:
        now = datetime.fromtimestamp(self._clock(), UTC) if self._settings.clock == "wall" else alert.updated_at
        silence = silence_over(self._silences.all(), alert, now)
        for step in self._store.put(alert, silence=silence) or ():
            log.info("%s %s: %s", step.event, alert.id, alert.summary)
            if step.event in ("firing", "resolved"):
                counter = self.metrics.opened if step.event == "firing" else self.metrics.resolved
                counter.labels(kind=kind(alert.series)).inc()

    def _reconcile(self, minute: int) -> None:
        """Make the stored open alerts and the open episodes one, when all that had been sealed is judged again.

        They differ after a loss of state or a change of settings, and where a command has put alerts back meanwhile.
        What was put back and tells of later minutes waits for these.
        """
        unsure = self._store.unsure()  # first: of what is put back meanwhile nothing is known
        stored = {alert.id: alert for alert in self._store.open()}
        episodes = self._judging.lifecycle.episodes
        ids = {episode.alert.id for episode in episodes}
        later = {id_ for id_, alert in stored.items() if alert.updated_at > at_end_of(minute)} - ids
        later &= set(map(name_of, unsure))
        stored = {id_: alert for id_, alert in stored.items() if id_ not in later}
        by_series = {alert.series: alert for alert in stored.values() if alert.id not in ids}
        untold = []
        for number, episode in enumerate(episodes):
            alert = episode.alert
            mine = stored.pop(alert.id, None) or by_series.get(alert.series)
            if mine is None:
                untold.append(alert)
                continue
            stored.pop(mine.id, None)
            if mine.series != alert.series:
                alert = moved(mine, alert, minute)  # what is judged on is the episode's series
                untold.append(alert)
            elif mine.id != alert.id or mine.revision > alert.revision:
                alert = mine
            episodes[number] = msgspec.structs.replace(episode, alert=alert)
        explained = self._judging.explain(untold)
        for alert in untold:
            self._put(explained(alert))
        for alert in stored.values():
            text = f"{alert.name}: closed, because its course is not known any more (state lost or settings changed)"
            self._put(self._judging.lifecycle.resolved(alert, minute, text))
        self._store.reconciled(each for each in unsure if name_of(each) not in later)
        self._reconcile_at = self._quiet_until = None
        self._save()  # or a crash would reconcile once more, and close what opened since
