"""The life of an alert: one an episode, from firing to resolved, with the related series that surge for the same items.

Pure decisions on judgements and evidence; `alerts.engine` stores what comes out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from alerts.alert import MAX_ALSO, Alert, Also, Event, Figures, alert_id, at_end_of
from alerts.discovery import Discovery
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
from alerts.families import MOST, Families
from alerts.metrics import AlertsMetrics
from alerts.rules import Limits, Rules
from alerts.series import THEME, company_of, kind, label, overlaps, series_of, theme_series
from alerts.settings import AlertsSettings
from alerts.surge import CALM_Z, Detector, Judgement
from alerts.windows import WindowItem

log = logging.getLogger(__name__)

_BREADTH = ("market", "topic", "company", "company_topic")
_LINKED = 0.1
"""Share of a surge's excess from which an open alert of a part is of the same group."""
_SHARED = 0.3
"""Share of items from which a theme and a series tell the same."""

Evidence = Callable[[Judgement], Sequence[WindowItem]]


class Change(msgspec.Struct, frozen=True):
    """A new revision of an alert; `event` is None when nobody needs to be told.

    `receivers` are names of webhooks; None stands for all.
    """

    alert: Alert
    event: Event | None
    receivers: tuple[str, ...] | None = None


class Episode(msgspec.Struct, frozen=True, kw_only=True):
    """An open alert, with what surges for its items, its own series first, and the most each had above its expectation.

    `calm` is the number of minutes for which its own series has been calm and none of the others has surged.
    `explained` are parts that surged no more than the alert's series lets one expect. A theme's episode has no series
    of its own that the detector knows: `alerts.emerging` says when it is over; `stories` are those it opened with.
    `receivers` are told of its end, as they were of its beginning (None: all).
    """

    alert: Alert
    minute: int
    excess: dict[str, float]
    calm: int = 0
    explained: frozenset[str] = frozenset()
    stories: frozenset[str] = frozenset()
    receivers: tuple[str, ...] | None = None


class Lifecycle:
    """Opens, joins and closes episodes; keeps `detector` informed about what is to be watched."""

    def __init__(
        self, settings: AlertsSettings, detector: Detector, discovery: Discovery, metrics: AlertsMetrics
    ) -> None:
        self._settings = settings
        self._detector = detector
        self._discovery = discovery
        self._families = Families(detector, settings.surge.threshold_z)
        self._metrics = metrics
        self.rules = Rules(settings)
        self._limit: float | None = None  # of p, until something changes it
        self.episodes: list[Episode] = []

    def step(self, minute: int, judgements: Sequence[Judgement], evidence: Evidence) -> list[Change]:
        """Return the changes of one minute. The same judgements and evidence give the same changes."""
        now = {judgement.series: judgement for judgement in judgements}
        members = {series for episode in self.episodes for series in episode.excess}
        changes, told = self._go_on(minute, now)
        members |= told  # they were judged by what is told
        let_go = self._let_go()
        members -= let_go.keys()
        before = {episode.alert.id: episode for episode in self.episodes}
        self._limit = None
        # The whole before its parts, which it may explain; of equals what shows most goes first.
        surging = [judgement for judgement in judgements if judgement.series not in members]
        for judgement in sorted(surging, key=lambda j: (_BREADTH.index(kind(j.series)), -j.strength, j.series)):
            if judgement.state == "warming up":
                self._metrics.held.labels(reason="warming_up").inc()
            # "firing" without an episode is what was let go of just now.
            elif judgement.state in ("pending", "firing") and not any(
                judgement.series in each.excess for each in self.episodes
            ):
                if self.rules.limits(judgement.series, minute).muted:
                    self._metrics.held.labels(reason="muted").inc()
                else:
                    self._take_up(judgement, now, evidence)
        for series, number in let_go.items():
            if not any(series in episode.excess for episode in self.episodes):
                self.episodes[number].excess[series] = 0.0
        return changes + self._changes(minute, before, now)

    def _changes(self, minute: int, before: Mapping[str, Episode], now: Mapping[str, Judgement]) -> list[Change]:
        """Return a revision of each alert that has changed; write it into its episode."""
        changes = []
        for number, episode in enumerate(self.episodes):
            alert, old = episode.alert, before.get(episode.alert.id)
            if old is episode:
                continue
            explained = episode.explained - {alert.series}
            alert = msgspec.structs.replace(
                alert,
                revision=alert.revision + 1,
                updated_at=at_end_of(minute),
                children=self._families.leading(now[alert.series], explained) if alert.series in now else (),
                explains=len(explained),
            )
            receivers = episode.receivers if old else self.rules.limits(alert.series, minute).receivers
            self.episodes[number] = msgspec.structs.replace(episode, alert=alert, receivers=receivers)
            changes.append(Change(alert, None if old else "alert.firing", receivers))
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
                if kind(episode.alert.series) != THEME:
                    continue  # it has become the alert of a company, which has its own end
                self.episodes.remove(episode)
                for member in episode.excess:
                    self._detector.release(member)
                alert = msgspec.structs.replace(episode.alert, peak=theme_figures(theme))
                text = theme_summary_resolved(alert.name, alert.peak, theme.minute - theme.opened)
                changes.append(Change(self.resolved(alert, theme.minute, text), "alert.resolved", episode.receivers))
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
        limits = self.rules.limits(series, theme.minute)
        alert = Alert(
            id=id_,
            revision=1,
            status="firing",
            severity=_severity(seen, limits),
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
        self.episodes.append(
            Episode(alert=alert, minute=theme.minute, excess={}, stories=told, receivers=limits.receivers)
        )
        return Change(alert, "alert.firing", limits.receivers)

    def _go_on(self, minute: int, now: Mapping[str, Judgement]) -> tuple[list[Change], set[str]]:
        """Return the alerts that end in this minute, and the series whose items they have told of."""
        changes, kept, told = [], [], set[str]()
        for episode in self.episodes:
            if kind(episode.alert.series) == THEME:
                kept.append(self._theme_goes_on(episode, now))
                continue
            seen = [now[series] for series in episode.excess]
            excess = {j.series: max(episode.excess[j.series], j.observed - j.expected) for j in seen}
            over = seen[0].recent_z < CALM_Z and all(
                j.recent_z < self.rules.limits(j.series, minute).threshold_z for j in seen
            )
            # A silent feed is not calm: it neither ends an episode nor begins its calm anew.
            calm = episode.calm if seen[0].state == "no data" else episode.calm + 1 if over else 0
            alert = episode.alert
            if seen[0].z > alert.peak.z:
                alert = msgspec.structs.replace(alert, peak=figures(seen[0]))
            if calm < self._settings.surge.calm_min:
                kept.append(msgspec.structs.replace(episode, alert=alert, excess=excess, calm=calm))
                continue
            for series in episode.excess:
                self._detector.release(series)
            settled = self._families.told(alert.series, episode.explained)
            self._detector.settle(settled)
            told |= set(settled)
            text = summary_resolved(alert.series, alert.peak, minute - episode.minute)
            changes.append(Change(self.resolved(alert, minute, text), "alert.resolved", episode.receivers))
        self.episodes = kept
        return changes, told

    def _let_go(self) -> dict[str, int]:
        """Take out of episodes what surged because of their items and by now surges without; return whence it came."""
        gone = {}
        for number, episode in enumerate(self.episodes):
            main = episode.alert.series
            for member in [member for member in episode.excess if overlaps(member, main)]:
                threshold = self.rules.limits(member, self._detector.minute).threshold_z
                if self._families.without(member, [main]) >= threshold:
                    del episode.excess[member]
                    gone[member] = number
        return gone

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
            severity=_severity(alert.peak, self.rules.limits(alert.series, minute)),
            updated_at=at,
            resolved_at=at,
            summary=text,
        )

    def _take_up(self, judgement: Judgement, now: dict[str, Judgement], evidence: Evidence) -> None:
        """Give a surge to the episode that explains it or is explained by it, or open one."""
        series, strength, group, above = judgement.series, judgement.strength, "", ""
        threshold = self.rules.limits(series, judgement.minute).threshold_z
        inside: list[tuple[float, int]] = []  # open alerts of what it contains, with their contributions
        for number, episode in enumerate(self.episodes):
            main = episode.alert.series
            if company_of(series) and company_of(series) == company_of(main):
                self._take_into_company(number, judgement, evidence)
                return
            if overlaps(main, series):
                given = self._families.given(series, main, episode.alert.peak)
                if self._families.explaining(now[main]) == series:
                    if self._move(number, judgement, evidence):
                        return
                elif given is None:
                    continue
                elif given >= threshold:
                    if given < strength:
                        strength, group, above = given, episode.alert.group, main
                    continue
                self._explain(number, series)
                return
            if overlaps(series, main):
                inside.append((self._families.contribution(judgement, main), number))
        share, number = max(inside, default=(0.0, -1))
        if share >= _LINKED:
            rest = self._families.without(series, [self.episodes[n].alert.series for _, n in inside])
            if rest < threshold:
                self._join(number, judgement)
                return
            strength, group = min(strength, rest), group or self.episodes[number].alert.group
        p = self._discovery.p_value(strength, int(self._detector.stand([series]).observed[-1, 0]))
        if self._limit is None:
            self._limit = self._discovery.limit(self._detector.parents)
        # A threshold below the usual is somebody's wish to be told of more.
        if p > self._limit and threshold >= self._settings.surge.threshold_z:
            self._metrics.held.labels(reason="discovery").inc()
            log.debug("%s surges (p %.1g), held: alerts open from %.1g on", series, p, self._limit)
            return
        chain = [judgement]
        while (part := self._families.explaining(chain[-1])) is not None:
            found = self._detector.judge(part)
            if found is None or any(part in episode.excess for episode in self.episodes):
                break
            chain.append(found)
        while chain and (report := self._report(chain[-1], evidence)) is None:
            chain.pop()
        if chain and report is not None and not self._belongs(chain[-1], evidence):
            self._open(chain, report, self._discovery.false_share(p, self._detector.parents), group, above)
            now[chain[-1].series] = chain[-1]

    def _take_into_company(self, number: int, judgement: Judgement, evidence: Evidence) -> None:
        """A company and its topics are one alert, on the company unless one topic has most of it."""
        main = self.episodes[number].alert.series
        if kind(main) == "company":
            self._explain(number, judgement.series)
            return
        broader = kind(judgement.series) == "company" and self._families.contribution(judgement, main) <= MOST
        if not (broader and self._move(number, judgement, evidence)):
            self._join(number, judgement)

    def _open(
        self, chain: Sequence[Judgement], report: dict[str, Any], false_share: float, group: str, above: str
    ) -> None:
        """Open an alert on the last of `chain`; each of the others contains and is explained by the next."""
        judgement = chain[-1]
        id_ = alert_id(judgement.series, judgement.minute)
        at = at_end_of(judgement.minute)
        alert = Alert(
            id=id_,
            revision=0,
            status="firing",
            started_at=at,
            updated_at=at,
            also=tuple(_also(each) for each in reversed(chain[:-1])),
            group=group or id_,
            parent=above,
            expected_false_share=float(f"{false_share:.2g}"),
            **report,
        )
        for each in chain:
            self._detector.watch(each.series)
        excess = {each.series: each.observed - each.expected for each in reversed(chain)}
        self.episodes.append(Episode(alert=alert, minute=judgement.minute, excess=excess))
        self._discovery.opened()
        self._limit = None

    def _report(self, judgement: Judgement, evidence: Evidence) -> dict[str, Any] | None:
        """Return what an alert says of a surge; None when too few publishers stand behind it, or it is muted."""
        limits = self.rules.limits(judgement.series, judgement.minute)
        if limits.muted:
            return None
        items = evidence(judgement)
        behind = publishers(items)
        unlisted = max(0, judgement.observed - len(items))
        # What the full lists of evidence left out may be of other publishers: in doubt, tell.
        if behind + unlisted < limits.minimum_publishers:
            self._metrics.held.labels(reason="publishers").inc()
            log.info("%s surges (z %.1f), held: publishers behind it: %d", judgement.series, judgement.z, behind)
            return None
        seen = figures(judgement)
        return {
            "series": judgement.series,
            "name": label(judgement.series),
            "severity": _severity(seen, limits),
            "summary": summary(judgement.series, seen, behind, "" if unlisted else mostly_about(items), unlisted),
            "figures": seen,
            "peak": seen,
            "publishers": behind,
            "unlisted": unlisted,
            "stories": stories(items, self._settings.stories),
            "rule": next(iter(limits.rules), ""),
        }

    def _move(self, number: int, judgement: Judgement, evidence: Evidence) -> bool:
        """Make an alert that is open the alert of what explains it; nobody is told twice."""
        report = self._report(judgement, evidence)
        if report is None:
            return False
        episode = self.episodes[number]
        old = episode.alert
        self._detector.watch(judgement.series)
        alert = msgspec.structs.replace(
            old,
            also=(Also(series=old.series, name=old.name, figures=old.figures), *old.also)[:MAX_ALSO],
            moved_at=at_end_of(judgement.minute) if old.revision else None,
            **report,
        )
        excess = {judgement.series: judgement.observed - judgement.expected, **episode.excess}
        self.episodes[number] = msgspec.structs.replace(episode, alert=alert, excess=excess, calm=0)
        self._metrics.joined.labels(kind=kind(old.series)).inc()
        return True

    def _join(self, number: int, judgement: Judgement) -> None:
        """List what surges because of an open alert's items."""
        episode = self.episodes[number]
        self._detector.watch(judgement.series)
        alert = msgspec.structs.replace(episode.alert, also=(*episode.alert.also, _also(judgement))[:MAX_ALSO])
        excess = episode.excess | {judgement.series: judgement.observed - judgement.expected}
        self.episodes[number] = msgspec.structs.replace(episode, alert=alert, excess=excess, calm=0)
        self._metrics.joined.labels(kind=kind(judgement.series)).inc()

    def _explain(self, number: int, series: str) -> None:
        """List a part that surges no more than an open alert lets one expect."""
        episode = self.episodes[number]
        if series not in episode.explained:
            self.episodes[number] = msgspec.structs.replace(episode, explained=episode.explained | {series})
            self._metrics.joined.labels(kind=kind(series)).inc()

    def _belongs(self, judgement: Judgement, evidence: Evidence) -> bool:
        """Give a surge to an open episode that has its stories: a theme, or another company in the same news."""
        items = evidence(judgement)
        above = judgement.observed - judgement.expected
        of_company = judgement.series.startswith("company=")
        for number, episode in enumerate(self.episodes):
            main = episode.alert
            if kind(main.series) == THEME:
                same = sum(item.story in episode.stories or _names(item.title, main.name) for item in items)
            elif of_company and main.series.startswith("company="):
                same = sum(main.series in series_of(item.topic, item.companies) for item in items)
            else:
                continue
            if of_company and kind(main.series) == THEME and same > _SHARED * len(items):
                return self._move(number, judgement, evidence)
            if items and same / len(items) * judgement.observed > MOST * above:
                self._join(number, judgement)
                return True
        return False


def _severity(seen: Figures, limits: Limits) -> Literal["warning", "critical"]:
    return "critical" if seen.z >= limits.critical_z else "warning"


def _explains(series: str, excess: float, theme: Theme) -> bool:
    """Say whether a series that surges says what a theme would: its items are the theme's, to 30 % at least.

    Of a company 30 % of the theme's stories are about it; of a topic or the market the theme's stories are 30 % of what
    it has above what was expected, or else the theme says more.
    """
    within = sum(series in series_of(item.topic, item.companies) for item in theme.items)
    return within > _SHARED * (len(theme.items) if series.startswith("company=") else excess)


def _names(title: str, phrase: str) -> bool:
    return phrase.casefold() in title.casefold()


def _also(judgement: Judgement) -> Also:
    return Also(series=judgement.series, name=label(judgement.series), figures=figures(judgement))
