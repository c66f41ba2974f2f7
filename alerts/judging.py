"""Judging a minute: detectors, control of false alerts, themes and the book of episodes, with all that they remember.

What a minute decides follows from its buckets and the state before it, to the bit: after a restart, and in a replay.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from alerts.alert import Alert
from alerts.book import Episode
from alerts.buckets import Places, Sealed
from alerts.discovery import Discovery, DiscoverySnapshotError
from alerts.emerging import Emerging, ThemesSnapshotError
from alerts.episodes import Theme
from alerts.evidence import items_of
from alerts.explain import Explainer, Explaining
from alerts.judgement import CALM_Z, Judgement
from alerts.lifecycle import Change, Lifecycle
from alerts.metrics import KINDS, AlertsMetrics
from alerts.rules import Rules
from alerts.series import MARKET, THEME, kind, series_of
from alerts.settings import AlertsSettings
from alerts.surge import Detector
from alerts.told import Told
from alerts.windows import COPY, NEGATIVE, Count, WindowItem

log = logging.getLogger(__name__)

_NO_COUNTS: Mapping[int, Mapping[Count, int]] = {}


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """All state between two minutes."""

    episodes: list[Episode]
    detector: bytes
    themes: bytes = b""
    discovery: bytes = b""
    told: list[Told] = []


def is_calm(counts: Mapping[Count, int]) -> bool:
    """Say whether a minute with these counts has no negative item, so that nothing begins to surge in it."""
    return all(label != NEGATIVE for _, _, label in counts)


class Judging:
    """Judges one minute after the other; one thread."""

    def __init__(
        self, settings: AlertsSettings, buckets: Sealed, metrics: AlertsMetrics, explainer: Explainer | None
    ) -> None:
        self._settings = settings
        self._buckets = buckets
        self._metrics = metrics
        self._explaining = Explaining(explainer, settings.explain_timeout_s, metrics) if explainer is not None else None
        self.begin()

    def begin(self) -> None:
        """Forget everything."""
        self.detector = Detector(self._settings.surge)
        self.lifecycle = Lifecycle(
            self._settings,
            self.detector,
            Discovery(self._settings.discovery, self._settings.surge.threshold_z),
            self._metrics,
        )
        self._emerging = Emerging(self._settings.themes) if self._settings.themes.on else None
        if self._emerging is not None:
            self._emerging.is_told = self.lifecycle.is_told
        self._refused = self._forgotten = 0
        self._listed: tuple[int, int, dict[str, list[WindowItem]]] = (0, 0, {})

    def restore(self, memory: Memory) -> None:
        """Take up what `memory` returned.

        Raises:
            SnapshotError: it is damaged, or of another version.
        """
        self.detector.restore(memory.detector)
        self.lifecycle.episodes = list(memory.episodes)
        self.lifecycle.told = list(memory.told)
        self._load_themes(memory.themes)
        try:
            if memory.discovery:
                self.lifecycle.discovery.restore(memory.discovery)
        except DiscoverySnapshotError as exc:
            log.warning("the last snapshot of tests cannot be used (%s); learning again what is rare", exc)

    def memory(self) -> Memory:
        """Return all state."""
        return Memory(
            episodes=self.lifecycle.episodes,
            detector=self.detector.snapshot(),
            themes=self._emerging.snapshot() if self._emerging is not None else b"",
            discovery=self.lifecycle.discovery.snapshot(),
            told=self.lifecycle.told,
        )

    def renew(self, rules: Rules) -> None:
        """A new look at the windows begins: from now on these rules hold, and the explainer has all its time again."""
        self.detector.rules = rules
        self.lifecycle.use(rules)
        if self._emerging is not None:
            self._emerging.rules = rules
        if self._explaining is not None:
            self._explaining.renew()

    def judge(self, minute: int, counts: Mapping[Count, int], listed: Sequence[WindowItem]) -> list[Change]:
        """Return what a minute with these counts and listed negative items changes."""
        if not counts and minute <= self.rests_until():
            self.rest(minute)
            return []
        begun = time.perf_counter()
        changes: list[Change] = []
        if counts or self.detector.minute:
            judgements = self.detector.update(minute, counts)
            if self._explaining is not None and any(j.state != "warming up" and j.z > CALM_Z for j in judgements):
                self._explaining.prepare()
            self._observe_tests(minute)
            changes = self.lifecycle.step(minute, judgements, self._evidence)
            changes += self.lifecycle.step_themes(self._themes(minute, counts, listed))
        self._metrics.minutes.inc()
        self._metrics.tick_seconds.observe(time.perf_counter() - begun)
        return changes

    def rests_until(self) -> int:
        """Return the minute up to which time alone brings nothing that is told; the last one judged if it may at once.

        Up to there `rest` does for minutes without negative items what `judge` would do for each.
        """
        minute = self.detector.minute
        if any(episode.excess or kind(episode.alert.series) != THEME for episode in self.lifecycle.episodes):
            return minute
        if self._emerging is None:
            return self.detector.rests_until()
        if self._emerging.minute != minute:  # after a gap they catch up with the detector first
            return minute
        return min(self.detector.rests_until(), self._emerging.rests_until())

    def rest(self, minute: int, calm: Mapping[int, Mapping[Count, int]] = _NO_COUNTS) -> None:
        """Go on to `minute`, at most `rests_until`, through minutes without negative items.

        `calm` are the counts of those that have items, in order.
        """
        begun, minutes = time.perf_counter(), minute - self.detector.minute
        self.detector.rest(minute, calm)
        if calm:  # all of one hour: for the tests they are one
            self._observe_tests(minute)
        self.lifecycle.rest(minute)
        if self._emerging is not None:
            for each, counts in calm.items():
                self._emerging.rest(each - 1)
                self._themes(each, counts, ())
            self._emerging.rest(minute)
        self._metrics.minutes.inc(minutes)
        self._metrics.tick_seconds.observe((time.perf_counter() - begun) / minutes)

    def listed(
        self, buckets: Mapping[int, Mapping[Count, int]], places: Places | None = None
    ) -> dict[int, list[WindowItem]]:
        """Read the negative items of those minutes that have some, for the themes."""
        if self._emerging is None:
            return {}
        minutes = [minute for minute, counts in buckets.items() if not is_calm(counts)]
        return dict(zip(minutes, self._buckets.listed(minutes, places) if minutes else [], strict=True))

    def explain(self, alerts: list[Alert]) -> Callable[[Alert], Alert]:
        """Ask for the words of new alerts, for their episodes too; return what gives any revision of them the words."""
        if self._explaining is None or not alerts:
            return lambda alert: alert
        stories = {alert.id: alert.stories for alert in self._explaining.explain(alerts)}

        def explained(alert: Alert) -> Alert:
            return msgspec.structs.replace(alert, stories=stories.get(alert.id, alert.stories))

        self.lifecycle.episodes = [
            msgspec.structs.replace(episode, alert=explained(episode.alert)) for episode in self.lifecycle.episodes
        ]
        return explained

    def watch(self) -> None:
        """Set the metrics of what is remembered."""
        metrics = self._metrics
        metrics.series.set(self.detector.tracked)
        metrics.refused.inc(max(0, self.detector.refused - self._refused))
        self._refused = self.detector.refused
        metrics.expected_false_share.set(self.lifecycle.discovery.expected_false_share)
        if self._emerging is not None:
            metrics.themes_window_seconds.set(self._emerging.window_min * 60)
            metrics.themes_terms.set(self._emerging.terms)
            metrics.themes_loss.set(self._emerging.loss)
            metrics.themes_forgotten.inc(self._emerging.forgotten - self._forgotten)
            self._forgotten = self._emerging.forgotten
        open_kinds = [kind(episode.alert.series) for episode in self.lifecycle.episodes]
        for name in KINDS:
            metrics.open.labels(kind=name).set(open_kinds.count(name))

    def _load_themes(self, snapshot: bytes) -> None:
        """Take up the themes; where they cannot be, their open alerts are closed when all is reconciled."""
        if self._emerging is not None and snapshot:
            try:
                self._emerging.restore(snapshot)
                self._forgotten = self._emerging.forgotten
                return
            except ThemesSnapshotError as exc:
                log.warning("the last snapshot of themes cannot be used (%s); learning again", exc)
        episodes = self.lifecycle.episodes
        for episode in [episode for episode in episodes if kind(episode.alert.series) == THEME]:
            for member in episode.excess:
                self.detector.release(member)  # or it would be watched for ever
            episodes.remove(episode)

    def _observe_tests(self, minute: int) -> None:
        """Tell control of false alerts what was tested in the last minute, and what time it is."""
        tested = self.detector.tested
        self.lifecycle.discovery.observe(
            minute,
            tested.columns,
            tested.strengths,
            tested.negatives,
            self.detector.in_episode(),
            learn=not self.detector.warming_up(),
        )

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
            listed = {}
            for item in self._buckets.items(minutes):
                for series in series_of(item.topic, item.companies):
                    listed.setdefault(series, []).append(item)
            self._listed = judgement.minute, judgement.window_min, listed
        return items_of(judgement, listed.get(judgement.series, ()), self._settings.windows)
