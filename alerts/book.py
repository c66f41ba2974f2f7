"""The open episodes: each surge is given to the one that explains it or that it explains, or opens one.

Pure decisions on judgements and evidence, a minute at a time; `alerts.lifecycle` calls them in order.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from alerts.alert import MAX_ALSO, Alert, Also, Figures, alert_id, at_end_of
from alerts.copies import different
from alerts.discovery import Discovery
from alerts.evidence import figures, mostly_about, publishers, stories, summary
from alerts.families import MOST, Families
from alerts.judgement import Judgement
from alerts.life import SEVERITIES, Severity
from alerts.metrics import AlertsMetrics
from alerts.rules import Limits, Rules
from alerts.series import THEME, company_of, kind, label, overlaps, series_of
from alerts.settings import AlertsSettings
from alerts.surge import Detector
from alerts.windows import WindowItem

log = logging.getLogger(__name__)

_LINKED = 0.1
"""Share of a surge's excess from which an open alert of a part is of the same group."""
SHARED = 0.3
"""Share of items from which a theme and a series tell the same."""

_ASKED_MIN = 5
"""Minutes between two looks at whether a company that joined an alert is in the same news: its evidence is read."""

Evidence = Callable[[Judgement], Sequence[WindowItem]]


class Episode(msgspec.Struct, frozen=True, kw_only=True):
    """An open alert, with what surges for its items, its own series first, and the most each had above its expectation.

    `calm` is the number of minutes for which its own series has been calm and none of the others has surged.
    `explained` are parts that surged no more than the alert's series lets one expect. A theme's episode has no series
    of its own that the detector knows: `alerts.emerging` says when it is over; `stories` are those it opened with.
    """

    alert: Alert
    minute: int
    excess: dict[str, float]
    calm: int = 0
    explained: frozenset[str] = frozenset()
    stories: frozenset[str] = frozenset()


class Book:
    """Holds the open episodes; keeps `detector` informed about what is to be watched."""

    def __init__(
        self, settings: AlertsSettings, detector: Detector, discovery: Discovery, metrics: AlertsMetrics
    ) -> None:
        self._settings = settings
        self._detector = detector
        self._discovery = discovery
        self._metrics = metrics
        self._limit: float | None = None  # of p, until something changes it
        self.explained: set[str] = set()
        """Parts that open alerts explain in this minute."""
        self.families = Families(detector, settings.surge.threshold_z)
        self.rules = Rules(settings)
        self.episodes: list[Episode] = []

    def holds(self, series: str) -> bool:
        """Say whether a series surges for the items of an open alert."""
        return any(series in episode.excess for episode in self.episodes)

    def new_minute(self) -> None:
        """What was worked out of the minute before is worked out anew."""
        self._limit = None
        self.explained.clear()
        self.families.new_minute()

    def let_go(self, now: Mapping[str, Judgement], evidence: Evidence) -> dict[str, tuple[int, float]]:
        """Take out of episodes what surged for their items and by now surges without; return whence, and its excess.

        Its windows must show it without the items of any open alert, and of the companies in these: what has added up
        may still be those items. What shares none by what it is, as another company, goes when its items are no longer
        the same news, which is asked every few minutes. How many of a series' items are a theme's is not counted: those
        that a theme holds go when they are calm.
        """
        gone = {}
        told = self._told()
        for number, episode in enumerate(self.episodes):
            main = episode.alert.series
            if kind(main) == THEME:
                continue
            for member in [member for member in episode.excess if member != main]:
                threshold = self.rules.limits(member, self._detector.minute).threshold_z
                judgement, same = now[member], False
                if overlaps(member, main):
                    others = [each for each in told if each != member and overlaps(member, each)]
                    alone = self.families.shown_without(member, others)
                elif judgement.minute % _ASKED_MIN:
                    continue
                elif (alone := judgement.recent_strength) >= threshold:
                    same = _same_news(judgement, main, evidence(judgement))
                if alone >= threshold and not same:
                    gone[member] = number, episode.excess.pop(member)
        return gone

    def _told(self, but: str = "") -> set[str]:
        """Return what open alerts, but that with this id, tell of: their series and the companies in them."""
        alerts = [episode for episode in self.episodes if episode.alert.id != but]
        held = {series for episode in alerts for series in episode.excess if kind(series) == "company"}
        return held | {episode.alert.series for episode in alerts}

    def goes_on(self, judgement: Judgement, episode: Episode) -> bool:
        """Say whether what surged for an episode's items still surges, but for items of other open alerts."""
        series, threshold = judgement.series, self.rules.limits(judgement.series, judgement.minute).threshold_z
        if judgement.recent_strength < threshold:
            return False
        others = [each for each in self._told(but=episode.alert.id) if each != series and overlaps(series, each)]
        return not others or self.families.goes_on_without(series, others) >= threshold

    def take_up(self, judgement: Judgement, now: dict[str, Judgement], evidence: Evidence) -> None:
        """Give a surge to the episode that explains it or is explained by it, or open one."""
        series, strength, group, above = judgement.series, judgement.strength, "", ""
        threshold = self.rules.limits(series, judgement.minute).threshold_z
        mains = [episode.alert.series for episode in self.episodes]
        inside: list[tuple[float, int]] = []  # open alerts of what it contains, with their contributions
        if (own := self._of_company(series)) is not None:
            self._take_into_company(own, judgement, evidence)
            return
        for number, episode in enumerate(self.episodes):
            main = episode.alert.series
            if overlaps(main, series):
                given = self.families.given(series, main, episode.alert.peak, [m for m in mains if overlaps(main, m)])
                if self.families.explaining(now[main]) == series:
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
                inside.append((self.families.contribution(judgement, main), number))
        share, number = max(inside, default=(0.0, -1))
        if share >= _LINKED:
            rest = self.families.without(series, [self.episodes[n].alert.series for _, n in inside])
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
        while (part := self.families.explaining(chain[-1])) is not None:
            found = self._detector.judge(part)
            if found is None or self.holds(part) or self._of_company(part) is not None:
                break
            chain.append(found)
        while chain and (report := self.report(chain[-1], evidence)) is None:
            chain.pop()
        if chain and report is not None and not self._belongs(chain[-1], evidence):
            self._open(chain, report, self._discovery.false_share(p, self._detector.parents), group, above)
            now[chain[-1].series] = chain[-1]

    def _of_company(self, series: str) -> int | None:
        """Return the place of the open alert on the company that a series is about; None where there is none."""
        company = company_of(series)
        mains = (company_of(episode.alert.series) for episode in self.episodes)
        return next((number for number, main in enumerate(mains) if company and main == company), None)

    def _take_into_company(self, number: int, judgement: Judgement, evidence: Evidence) -> None:
        """A company and its topics are one alert, on the company unless one topic has most of it."""
        main = self.episodes[number].alert.series
        if kind(main) == "company":
            self._explain(number, judgement.series)
            return
        broader = kind(judgement.series) == "company" and self.families.contribution(judgement, main) <= MOST
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
            also=tuple(also_of(each) for each in reversed(chain[:-1])),
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

    def report(self, judgement: Judgement, evidence: Evidence) -> dict[str, Any] | None:
        """Return what an alert says of a surge; None when too few publishers stand behind it, or it is muted."""
        limits = self.rules.limits(judgement.series, judgement.minute)
        if limits.muted:
            return None
        listed = evidence(judgement)
        items, unlisted = different(listed), max(0, judgement.observed - len(listed))
        reprints = (len(listed) - len(items)) / max(1, len(listed))
        too_few = judgement.observed * (1 - reprints) < limits.minimum_count
        if reprints and (too_few or self.families.less(judgement.series, reprints) < limits.threshold_z):
            self._metrics.held.labels(reason="copies").inc()
            return None
        behind = publishers(items)
        # What the full lists of evidence left out may be of other publishers: in doubt, tell.
        if behind + unlisted < limits.minimum_publishers:
            self._metrics.held.labels(reason="publishers").inc()
            log.info("%s surges (z %.1f), held: publishers behind it: %d", judgement.series, judgement.z, behind)
            return None
        seen = figures(judgement)
        return {
            "series": judgement.series,
            "name": label(judgement.series),
            "severity": severity_of(seen, limits),
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
        report = self.report(judgement, evidence)
        if report is None:
            return False
        episode = self.episodes[number]
        old = episode.alert
        self._detector.watch(judgement.series)
        alert = msgspec.structs.replace(
            old,
            also=(Also(series=old.series, name=old.name, figures=old.figures), *old.also)[:MAX_ALSO],
            moved_at=at_end_of(judgement.minute) if old.revision else None,
            began_on=(old.began_on or old.series) if old.revision else "",
            **(report | {"severity": max(old.severity, report["severity"], key=SEVERITIES.index)}),
        )
        excess = {judgement.series: judgement.observed - judgement.expected, **episode.excess}
        self.episodes[number] = msgspec.structs.replace(episode, alert=alert, excess=excess, calm=0)
        self._metrics.joined.labels(kind=kind(old.series)).inc()
        return True

    def _join(self, number: int, judgement: Judgement) -> None:
        """List what surges because of an open alert's items."""
        episode = self.episodes[number]
        self._detector.watch(judgement.series)
        alert = msgspec.structs.replace(episode.alert, also=(*episode.alert.also, also_of(judgement))[:MAX_ALSO])
        excess = episode.excess | {judgement.series: judgement.observed - judgement.expected}
        self.episodes[number] = msgspec.structs.replace(episode, alert=alert, excess=excess, calm=0)
        self._metrics.joined.labels(kind=kind(judgement.series)).inc()

    def _explain(self, number: int, series: str) -> None:
        """List a part that surges no more than an open alert lets one expect."""
        episode = self.episodes[number]
        self.explained.add(series)
        if series not in episode.explained:
            self.episodes[number] = msgspec.structs.replace(episode, explained=episode.explained | {series})
            self._metrics.joined.labels(kind=kind(series)).inc()

    def _belongs(self, judgement: Judgement, evidence: Evidence) -> bool:
        """Give a surge to an open episode that has its stories: a theme, or another company in the same news."""
        items = evidence(judgement)
        of_company = judgement.series.startswith("company=")
        for number, episode in enumerate(self.episodes):
            main = episode.alert
            if kind(main.series) == THEME:
                same = sum(item.story in episode.stories or _names(item.title, main.name) for item in items)
                if of_company and same > SHARED * len(items):
                    return self._move(number, judgement, evidence)
                belongs = _mostly(same, items, judgement)
            else:
                belongs = (
                    of_company and main.series.startswith("company=") and _same_news(judgement, main.series, items)
                )
            if belongs:
                self._join(number, judgement)
                return True
        return False


def severity_of(seen: Figures, limits: Limits, before: Severity = "warning") -> Severity:
    """Return how severe an alert with these figures is; it never falls below what it was `before`."""
    return "critical" if max(seen.z, seen.strength) >= limits.critical_z else before


def _same_news(judgement: Judgement, main: str, items: Sequence[WindowItem]) -> bool:
    """Say whether what a company has above its expectation is mostly items that are also of the series `main`."""
    return _mostly(sum(main in series_of(item.topic, item.companies) for item in items), items, judgement)


def _mostly(same: int, items: Sequence[WindowItem], judgement: Judgement) -> bool:
    above = judgement.observed - judgement.expected
    return bool(items) and same / len(items) * judgement.observed > MOST * above


def _names(title: str, phrase: str) -> bool:
    return phrase.casefold() in title.casefold()


def also_of(judgement: Judgement) -> Also:
    """Return the line of a related series in an alert."""
    return Also(series=judgement.series, name=label(judgement.series), figures=figures(judgement))
