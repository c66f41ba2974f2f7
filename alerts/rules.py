"""Rules: which limits hold for a series at a minute, what is muted, and who is told.

Read from top to bottom, as Alertmanager reads its routes: the first rule that matches holds, and what it leaves open is
as in `defaults`, then as in the settings. A rule with `continue: true` lets those below fill what it leaves open.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from pathlib import Path
from statistics import NormalDist
from typing import Any

import msgspec

from alerts.alert import Alert
from alerts.rolling import WINDOWS_MIN
from alerts.routes import Routes, Way
from alerts.rules_file import Glob, Match, Rule, RulesFile, Sensitivity, Values, parse, read_bytes
from alerts.series import THEME, kind
from alerts.settings import AlertsSettings

_REMEMBERED = 65_536
_STEPS: dict[Sensitivity, float] = {"lowest": 2.0, "low": 1.0, "normal": 0.0, "high": -0.5, "highest": -1.0}
_LEAST_Z = 2.0


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for one series at one minute.

    `receivers` are told in the place of those of the routes; None leaves it to these, an empty tuple says nobody.
    `rules` are the names of the rules that hold, the first wins. Of a theme, whose threshold is a p-value,
    `threshold_z` comes on top: 0 adds nothing, and `windows_min` says nothing.
    """

    threshold_z: float
    minimum_count: int
    minimum_publishers: int
    windows_min: tuple[int, ...]
    critical_z: float
    muted: bool
    receivers: tuple[str, ...] | None
    rules: tuple[str, ...] = ()


class Rules:
    """The rules of a file. Immutable; a new file is a new object."""

    def __init__(self, settings: AlertsSettings, found: RulesFile | None = None) -> None:
        """Without a file the settings hold for every series."""
        self._found = found or RulesFile()
        self._base = {
            False: _base(settings.surge.threshold_z, settings.surge, settings.critical_z),
            True: _base(0.0, settings.themes, settings.critical_z),
        }
        # What a theme's p-value amounts to as a z, from which the steps of `sensitivity` are counted.
        self._theme_z = NormalDist().inv_cdf(1 - settings.themes.threshold_p)
        self._matchers = [_matcher(rule.match, self._found.groups) for rule in self._found.rules]
        found = self._found
        self.routes = Routes(receiver_names(settings), found.time_intervals, found.route, found.line)
        self._now: tuple[int, frozenset[str]] = (-1, frozenset())
        self._matching = lru_cache(_REMEMBERED)(self._match)
        self._resolved = lru_cache(_REMEMBERED)(self._resolve)

    @classmethod
    def load(cls, settings: AlertsSettings, file: Path, *, topics: Collection[str] = ()) -> Rules:
        """Read a file; `topics`, where known, are all there are, and a rule for another is a mistake.

        Raises:
            RulesError: it cannot be used.
        """
        return cls.parsed(settings, file, read_bytes(file), topics=topics)

    @classmethod
    def parsed(cls, settings: AlertsSettings, file: Path, raw: bytes, *, topics: Collection[str] = ()) -> Rules:
        """Take the bytes of a file.

        Raises:
            RulesError: they cannot be used.
        """
        return cls(settings, parse(raw, file, receivers=receiver_names(settings), topics=topics))

    def __len__(self) -> int:
        return len(self._matchers)

    @property
    def plain(self) -> bool:
        """Whether nothing is set, so that the settings hold for every series at any time."""
        return not self._found.rules and self._found.defaults == Values()

    def limits(self, series: str, minute: int) -> Limits:
        """Return what holds for a series at a minute (Unix time // 60)."""
        return self._resolved(self._matching(series), self._holding(minute))

    def told(self, alert: Alert, labels: Mapping[str, str], *, escalated: bool = False) -> dict[str, Way]:
        """Return who is told of an alert that has these labels, each with the route that says when.

        A rule that holds at the minute it fired (or moved to its series) and names receivers has the last word on who.
        """
        return self.routes.told(labels, instead=self.opening_limits(alert).receivers, escalated=escalated)

    def opening_limits(self, alert: Alert) -> Limits:
        """Return what holds for an alert's series at the minute at which it fired, or moved to that series."""
        minute = int((alert.moved_at or alert.started_at).timestamp()) // 60 - 1  # times are those of a minute's end
        return self.limits(alert.series, minute)

    def rule_line(self, name: str) -> int:
        """Return the line of the file in which a rule begins, 0 when there is none."""
        at = next((number for number, rule in enumerate(self._found.rules) if rule.name == name), None)
        return 0 if at is None else self._found.line(("rules", at))

    def sources(self, series: str, minute: int) -> dict[str, str]:
        """Return, for each key that a rule can set, what it is from: a rule, "defaults" or "settings"."""
        layers = self._layers(self._matching(series)[1], self._holding(minute))
        keys = [name for name in Values.model_fields if name != "sensitivity"]
        found = {}
        for key in keys:
            alike = (key, "sensitivity") if key == "threshold_z" else (key,)
            setting = (layer for layer, values in layers if any(getattr(values, name) is not None for name in alike))
            found[key] = next(setting, "settings")
        return found

    def _holding(self, minute: int) -> frozenset[str]:
        """The time intervals that hold at a minute. Two threads may ask at the same time, each of its minute."""
        now = self._now
        if now[0] != minute:
            now = self._now = minute, frozenset(each.name for each in self._found.time_intervals if each.holds(minute))
        return now[1]

    def _match(self, series: str) -> tuple[bool, tuple[int, ...]]:
        """Return whether a series is a theme, and the numbers of the rules that match it at some time."""
        of, parts = kind(series), dict(part.split("=", 1) for part in series.split(";") if "=" in part)
        return of == THEME, tuple(at for at, matches in enumerate(self._matchers) if matches(of, parts))

    def _layers(self, matching: tuple[int, ...], holding: frozenset[str]) -> list[tuple[str, Values]]:
        """Return those of the rules that hold now, then the defaults, each with its name."""
        layers: list[tuple[str, Values]] = []
        for rule in (self._found.rules[at] for at in matching):
            during, outside = rule.match.during, rule.match.outside
            if (not during or not holding.isdisjoint(during)) and holding.isdisjoint(outside):
                layers.append((rule.name, rule))
                if not rule.continue_:
                    break
        return [*layers, ("defaults", self._found.defaults)]

    def _resolve(self, matching: tuple[bool, tuple[int, ...]], holding: frozenset[str]) -> Limits:
        theme, numbers = matching
        layers = self._layers(numbers, holding)
        base = self._base[theme]

        def first(field: str, otherwise: Any) -> Any:
            return next((value for _, each in layers if (value := getattr(each, field)) is not None), otherwise)

        thresholds = (self._threshold(each, base, theme=theme) for _, each in layers)
        return Limits(
            threshold_z=next((z for z in thresholds if z is not None), base.threshold_z),
            minimum_count=first("minimum_count", base.minimum_count),
            minimum_publishers=first("minimum_publishers", base.minimum_publishers),
            windows_min=tuple(sorted(first("windows", base.windows_min))),
            critical_z=first("critical_from", base.critical_z),
            muted=first("mute", False),
            receivers=first("receivers", None),
            rules=tuple(name for name, each in layers if isinstance(each, Rule)),
        )

    def _threshold(self, values: Values, base: Limits, *, theme: bool) -> float | None:
        if values.sensitivity is None:
            return values.threshold_z
        step = _STEPS[values.sensitivity]
        if theme:
            return self._theme_z + step if step > 0 else 0.0
        return max(_LEAST_Z, base.threshold_z + step)


def receiver_names(settings: AlertsSettings) -> list[str]:
    """Return the names by which rules and routes speak of receivers."""
    return [receiver.name for receiver in settings.receivers]


def _base(threshold_z: float, settings: Any, critical_z: float) -> Limits:
    return Limits(
        threshold_z=threshold_z,
        minimum_count=settings.minimum_count,
        minimum_publishers=settings.minimum_publishers,
        windows_min=WINDOWS_MIN,
        critical_z=critical_z,
        muted=False,
        receivers=None,
    )


def _matcher(match: Match, groups: Mapping[str, tuple[str, ...]]) -> Callable[[str, Mapping[str, str]], bool]:
    """Return what says whether a series, given by kind and parts, is one that the rule speaks of."""
    members = {company.casefold() for group in match.group for company in groups[group]}
    every = (
        ("topic", [Glob(each) for each in match.topic]),
        ("company", [Glob(each) for each in match.company]),
        ("theme", [Glob(each, words=True) for each in match.theme]),
    )
    tests = [(name, globs) for name, globs in every if globs]

    def matches(of: str, parts: Mapping[str, str]) -> bool:
        if (match.kind and of not in match.kind) or (members and parts.get("company", "").casefold() not in members):
            return False
        return all(name in parts and any(glob.matches(parts[name]) for glob in globs) for name, globs in tests)

    return matches
