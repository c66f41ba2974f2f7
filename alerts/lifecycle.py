"""The course of episodes, minute by minute: what opens, grows, moves, calms down and ends, as new revisions of alerts.

Pure decisions on judgements and evidence; `alerts.engine` stores what comes out, and what that means for people is in
`alerts.life`.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

import msgspec

from alerts.alert import MAX_ALSO, Alert, Also, Event, alert_id, at_end_of
from alerts.book import SHARED, Book, Episode, Evidence, severity_of
from alerts.discovery import Discovery
from alerts.episodes import Theme
from alerts.evidence import (
    figures,
    publishers,
    stories,
    summary_resolved,
    theme_figures,
    theme_summary,
    theme_summary_resolved,
)
from alerts.judgement import CALM_Z, Judgement
from alerts.life import SEVERITIES
from alerts.metrics import AlertsMetrics
from alerts.rules import Rules
from alerts.series import THEME, kind, series_of, theme_series
from alerts.settings import AlertsSettings
from alerts.surge import Detector
from alerts.told import Told, is_told, remembered, told_by

_BREADTH = ("market", "topic", "company", "company_topic")


class Change(msgspec.Struct, frozen=True):
    """A new revision of an alert; `event` is None when it neither opens nor ends."""

    alert: Alert
    event: Event | None

    @property
    def has_new_stories(self) -> bool:
        """Whether the alert opened or was found to be about another series just now."""
        return self.event == "alert.firing" or self.alert.moved_at == self.alert.updated_at


class Lifecycle:
    """Takes judgements and themes through the minutes; keeps `detector` informed about what is to be watched."""

    def __init__(
        self, settings: AlertsSettings, detector: Detector, discovery: Discovery, metrics: AlertsMetrics
    ) -> None:
        self._settings = settings
        self._detector = detector
        self._metrics = metrics
        self.discovery = discovery
        self.told: list[Told] = []
        self._book = Book(settings, detector, discovery, metrics)

    @property
    def episodes(self) -> list[Episode]:
        """The open episodes."""
        return self._book.episodes

    @episodes.setter
    def episodes(self, episodes: list[Episode]) -> None:
        self._book.episodes = episodes

    def use(self, rules: Rules) -> None:
        """From now on these rules hold."""
        self._book.rules = rules

    def step(self, minute: int, judgements: Sequence[Judgement], evidence: Evidence) -> list[Change]:
        """Return the changes of one minute. The same judgements and evidence give the same changes."""
        now = {judgement.series: judgement for judgement in judgements}
        members = {series for episode in self.episodes for series in episode.excess}
        severity = {episode.alert.id: episode.alert.severity for episode in self.episodes}
        changes, told = self._go_on(minute, now, evidence)
        members |= told  # they were judged by what is told
        let_go = self._book.let_go(now, evidence)
        members -= let_go.keys()
        before = {episode.alert.id: episode for episode in self.episodes}
        grown = {id_ for id_, episode in before.items() if episode.alert.severity != severity[id_]}
        self._book.new_minute()
        # The whole before its parts, which it may explain; of equals what shows most goes first.
        surging = [judgement for judgement in judgements if judgement.series not in members]
        for judgement in sorted(surging, key=lambda j: (_BREADTH.index(kind(j.series)), -j.strength, j.series)):
            if judgement.state == "warming up":
                self._metrics.held.labels(reason="warming_up").inc()
            # "firing" without an episode is what was let go of just now.
            elif judgement.state in ("pending", "firing") and not self._book.holds(judgement.series):
                if self._book.rules.limits(judgement.series, minute).muted:
                    self._metrics.held.labels(reason="muted").inc()
                else:
                    self._book.take_up(judgement, now, evidence)
        for series, (number, excess) in let_go.items():
            if self._book.holds(series):
                continue
            if series in self._book.explained:
                self._detector.release(series)  # another alert tells of it by now
            else:
                self.episodes[number].excess[series] = excess
        return changes + self._changes(minute, before, grown, now)

    def _changes(
        self, minute: int, before: Mapping[str, Episode], grown: Container[str], now: Mapping[str, Judgement]
    ) -> list[Change]:
        """Return a revision of each alert that is new, has changed or grown worse; write it into its episode."""
        changes = []
        for number, episode in enumerate(self.episodes):
            alert, old = episode.alert, before.get(episode.alert.id)
            if old is episode and alert.id not in grown:
                continue
            explained = episode.explained - {alert.series}
            alert = msgspec.structs.replace(
                alert,
                revision=alert.revision + 1,
                updated_at=at_end_of(minute),
                children=self._book.families.leading(now[alert.series], explained) if alert.series in now else (),
                explains=len(explained),
            )
            self.episodes[number] = msgspec.structs.replace(episode, alert=alert)
            changes.append(Change(alert, None if old else "alert.firing"))
        return changes

    def is_told(self, theme: Theme) -> bool:
        """Say whether a theme is no news: alerts that closed within a day have told of its stories."""
        return is_told(theme, self.told, self._settings.themes.minimum_count)

    def rest(self, minute: int) -> None:
        """Go on to `minute`, through minutes in which no series is judged, surges or is in an episode."""
        self.told = remembered(self.told, minute)

    def step_themes(self, themes: Sequence[Theme]) -> list[Change]:
        """Return the changes that themes bring, which open and close after the series of the same minute."""
        changes = []
        for theme in themes:
            id_ = alert_id(theme_series(theme.phrase), theme.opened)
            if theme.event == "opened":
                changes.append(self._open_theme(theme, id_))
                continue
            for episode in [episode for episode in self.episodes if episode.alert.id == id_]:
                if kind(episode.alert.series) != THEME:
                    continue  # it has become the alert of a company, which has its own end
                self.episodes.remove(episode)
                for member in episode.excess:
                    self._detector.release(member)
                peak = theme_figures(theme)
                limits = self._book.rules.limits(episode.alert.series, theme.minute)
                severity = severity_of(peak, limits, episode.alert.severity)
                alert = msgspec.structs.replace(episode.alert, peak=peak, severity=severity)
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
        limits = self._book.rules.limits(series, theme.minute)
        alert = Alert(
            id=id_,
            revision=1,
            status="firing",
            severity=severity_of(seen, limits),
            series=series,
            name=theme.phrase,
            started_at=at,
            updated_at=at,
            summary=theme_summary(theme.phrase, seen, behind),
            figures=seen,
            peak=seen,
            publishers=behind,
            stories=stories(theme.items, self._settings.stories),
            group=id_,
            rule=next(iter(limits.rules), ""),
        )
        told = frozenset(item.story for item in theme.items)
        self.episodes.append(Episode(alert=alert, minute=theme.minute, excess={}, stories=told))
        return Change(alert, "alert.firing")

    def _go_on(self, minute: int, now: Mapping[str, Judgement], evidence: Evidence) -> tuple[list[Change], set[str]]:
        """Return the alerts that end in this minute, and the series whose items they have told of."""
        changes, kept, told = [], [], set[str]()
        self.told = remembered(self.told, minute)
        for episode in self.episodes:
            if kind(episode.alert.series) == THEME:
                kept.append(self._theme_goes_on(episode, now))
                continue
            seen = [now[series] for series in episode.excess]
            excess = {j.series: max(episode.excess[j.series], j.observed - j.expected) for j in seen}
            over = seen[0].recent_z < CALM_Z and not any(self._book.goes_on(j, episode) for j in seen[1:])
            # A silent feed is not calm; how calm it was just before is not known either.
            calm = episode.calm + 1 if over and seen[0].state != "no data" else 0
            alert = self._grown(episode.alert, seen[0], evidence)
            if calm < self._settings.surge.calm_min:
                kept.append(msgspec.structs.replace(episode, alert=alert, excess=excess, calm=calm))
                continue
            for series in episode.excess:
                self._detector.release(series)
            settled = self._book.families.told(alert.series, episode.explained)
            self._detector.settle(settled)
            told |= set(settled)
            self.told += told_by(episode.excess, minute)
            text = summary_resolved(alert.series, alert.peak, minute - episode.minute)
            changes.append(Change(self.resolved(alert, minute, text), "alert.resolved"))
        self.episodes = kept
        return changes, told

    def _grown(self, alert: Alert, judgement: Judgement, evidence: Evidence) -> Alert:
        """Return the alert with its new peak; where it has grown critical, with the sentence that says so.

        It grows with a peak alone, and stays as severe as it was when its copies, publishers or a mute would keep it
        from opening.
        """
        seen, peak = figures(judgement), alert.peak
        if seen.z > peak.z:
            alert = msgspec.structs.replace(alert, peak=seen)
        elif seen.strength > max(peak.strength, peak.z):
            alert = msgspec.structs.replace(alert, peak=msgspec.structs.replace(peak, strength=seen.strength))
        else:
            return alert
        limits = self._book.rules.limits(alert.series, judgement.minute)
        if seen.strength < limits.threshold_z or severity_of(seen, limits, alert.severity) == alert.severity:
            return alert
        report = self._book.report(judgement, evidence)
        if report is None:
            return alert
        return msgspec.structs.replace(alert, severity=report["severity"], summary=report["summary"])

    def _theme_goes_on(self, episode: Episode, now: Mapping[str, Judgement]) -> Episode:
        """Let go of what surged because of a theme when it is calm again: a theme lasts for days."""
        if not episode.excess:
            return episode
        over = all(now[series].recent_z < CALM_Z for series in episode.excess)
        calm = episode.calm + 1 if over else 0
        if calm < self._settings.surge.calm_min:
            return msgspec.structs.replace(episode, calm=calm)
        for series in episode.excess:
            self._detector.release(series)
        return msgspec.structs.replace(episode, excess={}, calm=0)

    def resolved(self, alert: Alert, minute: int, text: str) -> Alert:
        """Return the alert's last revision, closed at the end of `minute`."""
        at = at_end_of(minute)
        return msgspec.structs.replace(
            alert,
            revision=alert.revision + 1,
            status="resolved",
            updated_at=at,
            resolved_at=at,
            summary=text,
        )


def moved(stored: Alert, alert: Alert, minute: int) -> Alert:
    """Return the next revision of a stored alert, which `alert`, the same learnt anew, finds about another series."""
    at = at_end_of(minute)
    return msgspec.structs.replace(
        alert,
        id=stored.id,
        revision=stored.revision + 1,
        severity=max(stored.severity, alert.severity, key=SEVERITIES.index),
        started_at=stored.started_at,
        updated_at=at,
        moved_at=at,
        began_on=stored.began_on or stored.series,
    )


def _explains(series: str, excess: float, theme: Theme) -> bool:
    """Say whether a series that surges says what a theme would: its items are the theme's, to 30 % at least.

    Of a company 30 % of the theme's stories are about it; of a topic or the market the theme's stories are 30 % of what
    it has above what was expected, or else the theme says more.
    """
    within = sum(series in series_of(item.topic, item.companies) for item in theme.items)
    return within > SHARED * (len(theme.items) if series.startswith("company=") else excess)
