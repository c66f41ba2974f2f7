"""The life of an alert: one an episode, from firing to resolved, with the related series that surge for the same items.

Pure decisions on judgements and evidence; `alerts.engine` stores what comes out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec

from alerts.alert import MAX_ALSO, Alert, Also, Event, Figures, alert_id, at_end_of
from alerts.episodes import Theme
from alerts.evidence import (
    figures,
    mostly_about,
    publishers,
    stories,
    summary,
    summary_resolved,
    theme_figures,
    theme_summary,
    theme_summary_resolved,
)
from alerts.metrics import AlertsMetrics
from alerts.series import THEME, kind, label, overlaps, series_of, theme_series
from alerts.settings import AlertsSettings
from alerts.surge import CALM_Z, Detector, Judgement
from alerts.windows import WindowItem

log = logging.getLogger(__name__)

Evidence = Callable[[Judgement], Sequence[WindowItem]]


class Change(msgspec.Struct, frozen=True):
    """A new revision of an alert; `event` is None when nobody needs to be told."""

    alert: Alert
    event: Event | None


class Episode(msgspec.Struct, frozen=True, kw_only=True):
    """An open alert, with the series that belong to it (its own first) and the most each had above what was expected.

    `calm` is the number of minutes for which its own series has been calm and none of the others has surged. A theme's
    episode has no series that the detector knows: `alerts.emerging` says when it is over.
    """

    alert: Alert
    minute: int
    excess: dict[str, float]
    calm: int = 0


class Lifecycle:
    """Opens, joins and closes episodes; keeps `detector` informed about what is to be watched."""

    def __init__(self, settings: AlertsSettings, detector: Detector, metrics: AlertsMetrics) -> None:
        self._settings = settings
        self._detector = detector
        self._metrics = metrics
        self.episodes: list[Episode] = []

    def step(self, minute: int, judgements: Sequence[Judgement], evidence: Evidence) -> list[Change]:
        """Return the changes of one minute. The same judgements and evidence give the same changes."""
        now = {judgement.series: judgement for judgement in judgements}
        taken = {series for episode in self.episodes for series in episode.excess}
        changes = self._go_on(minute, now)
        surging = [judgement for judgement in judgements if judgement.series not in taken]
        # What shows most goes first; of equals the most specific, which says more.
        for judgement in sorted(surging, key=lambda j: (-j.z, -j.series.count("="), j.series)):
            if judgement.state == "warming up":
                self._metrics.held.labels(reason="warming_up").inc()
            elif judgement.state == "surging":
                changes += self._take_up(judgement, now, evidence)
        return changes

    def step_themes(self, themes: Sequence[Theme]) -> list[Change]:
        """Return the changes that themes bring, which open and close after the series of the same minute."""
        changes = []
        for theme in themes:
            id_ = alert_id(theme_series(theme.phrase), theme.opened)
            if theme.event == "opened":
                changes.append(self._open_theme(theme, id_))
                continue
            for episode in [episode for episode in self.episodes if episode.alert.id == id_]:
                self.episodes.remove(episode)
                alert = msgspec.structs.replace(episode.alert, peak=theme_figures(theme))
                text = theme_summary_resolved(alert.name, alert.peak, theme.minute - theme.opened)
                changes.append(Change(self.resolved(alert, theme.minute, text), "alert.resolved"))
        return changes

    def _open_theme(self, theme: Theme, id_: str) -> Change:
        series, seen, at = theme_series(theme.phrase), theme_figures(theme), at_end_of(theme.minute)
        for number, episode in enumerate(self.episodes):
            if any(_explains(member, excess, theme) for member, excess in episode.excess.items()):
                also = Also(series=series, name=theme.phrase, figures=seen)
                alert = msgspec.structs.replace(
                    episode.alert,
                    revision=episode.alert.revision + 1,
                    updated_at=at,
                    also=(*episode.alert.also, also)[:MAX_ALSO],
                )
                self.episodes[number] = msgspec.structs.replace(episode, alert=alert)
                self._metrics.joined.labels(kind=kind(series)).inc()
                return Change(alert, None)
        behind = publishers(theme.items)
        alert = Alert(
            id=id_,
            revision=1,
            status="firing",
            severity=self._severity(seen),
            series=series,
            name=theme.phrase,
            started_at=at,
            updated_at=at,
            summary=theme_summary(theme.phrase, seen, behind),
            figures=seen,
            peak=seen,
            publishers=behind,
            stories=stories(theme.items, self._settings.stories),
        )
        self.episodes.append(Episode(alert=alert, minute=theme.minute, excess={}))
        return Change(alert, "alert.firing")

    def _go_on(self, minute: int, now: Mapping[str, Judgement]) -> list[Change]:
        changes, kept = [], []
        for episode in self.episodes:
            if kind(episode.alert.series) == THEME:
                kept.append(episode)
                continue
            seen = [now[series] for series in episode.excess]
            excess = {j.series: max(episode.excess[j.series], j.observed - j.expected) for j in seen}
            over = seen[0].recent_z < CALM_Z and all(j.recent_z < self._settings.surge.threshold_z for j in seen)
            calm = episode.calm + 1 if over else 0
            alert = episode.alert
            if seen[0].z > alert.peak.z:
                alert = msgspec.structs.replace(alert, peak=figures(seen[0]))
            if calm < self._settings.surge.calm_min:
                kept.append(Episode(alert=alert, minute=episode.minute, excess=excess, calm=calm))
                continue
            for series in episode.excess:
                self._detector.release(series)
            text = summary_resolved(alert.series, alert.peak, minute - episode.minute)
            changes.append(Change(self.resolved(alert, minute, text), "alert.resolved"))
        self.episodes = kept
        return changes

    def resolved(self, alert: Alert, minute: int, text: str) -> Alert:
        """Return the alert's last revision, closed at the end of `minute`."""
        at = at_end_of(minute)
        return msgspec.structs.replace(
            alert,
            revision=alert.revision + 1,
            status="resolved",
            severity=self._severity(alert.peak),
            updated_at=at,
            resolved_at=at,
            summary=text,
        )

    def _take_up(self, judgement: Judgement, now: Mapping[str, Judgement], evidence: Evidence) -> list[Change]:
        items = evidence(judgement)
        behind = publishers(items)
        unlisted = max(0, judgement.observed - len(items))
        # What the full lists of evidence left out may be of other publishers: in doubt, tell.
        if behind + unlisted < self._settings.surge.minimum_publishers:
            self._metrics.held.labels(reason="publishers").inc()
            log.info("%s surges (z %.1f), held: publishers behind it: %d", judgement.series, judgement.z, behind)
            return []
        self._detector.watch(judgement.series)
        excess = {judgement.series: judgement.observed - judgement.expected}
        seen = figures(judgement)
        at = at_end_of(judgement.minute)
        for number, episode in enumerate(self.episodes):
            if self._belongs(judgement, episode, now, evidence):
                also = Also(series=judgement.series, name=label(judgement.series), figures=seen)
                alert = msgspec.structs.replace(
                    episode.alert,
                    revision=episode.alert.revision + 1,
                    severity=self._severity(episode.alert.peak),
                    updated_at=at,
                    also=(*episode.alert.also, also)[:MAX_ALSO],
                )
                self.episodes[number] = Episode(alert=alert, minute=episode.minute, excess=episode.excess | excess)
                self._metrics.joined.labels(kind=kind(judgement.series)).inc()
                return [Change(alert, None)]
        alert = Alert(
            id=alert_id(judgement.series, judgement.minute),
            revision=1,
            status="firing",
            severity=self._severity(seen),
            series=judgement.series,
            name=label(judgement.series),
            started_at=at,
            updated_at=at,
            summary=summary(judgement.series, seen, behind, "" if unlisted else mostly_about(items), unlisted),
            figures=seen,
            peak=seen,
            publishers=behind,
            unlisted=unlisted,
            stories=stories(items, self._settings.stories),
        )
        self.episodes.append(Episode(alert=alert, minute=judgement.minute, excess=excess))
        return [Change(alert, "alert.firing")]

    def _belongs(
        self, judgement: Judgement, episode: Episode, now: Mapping[str, Judgement], evidence: Evidence
    ) -> bool:
        """Say whether an open episode explains this surge.

        A company's topics belong to the company's own episode. Otherwise the items of the narrower series must be more
        than half of what the broader one has above what was expected; `overlaps` says which pairs are looked at.
        """
        for member in episode.excess:
            if overlaps(member, judgement.series):
                outer, inner, above = now[member], judgement.series, episode.excess[member]
            elif overlaps(judgement.series, member):
                outer, inner, above = judgement, member, judgement.observed - judgement.expected
            else:
                continue
            if outer.series.startswith("company="):
                return True
            listed = evidence(outer)
            within = sum(inner in series_of(item.topic, item.companies) for item in listed)
            if listed and within / len(listed) * outer.observed > above / 2:
                return True
        return False

    def _severity(self, seen: Figures) -> Literal["warning", "critical"]:
        return "critical" if seen.z >= self._settings.critical_z else "warning"


def _explains(series: str, excess: float, theme: Theme) -> bool:
    """Say whether a series that surges says what a theme would.

    A company does when most of the theme's stories are about it; a topic or the market when the theme's stories are
    more than half of what it has above what was expected, or else the theme says more.
    """
    within = sum(series in series_of(item.topic, item.companies) for item in theme.items)
    return within > (len(theme.items) if series.startswith("company=") else excess) / 2
