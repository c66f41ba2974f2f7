"""Routes: who is told of an alert, together with what, and when. A tree as Alertmanager's, read the same way.

An alert enters at the root. At each route it goes to the first of the routes below that match, and to the next ones as
long as those matched say `continue`; where none below matches, it stays. What a route leaves open is as above it; but
matchers, `continue` and times are its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from alerts.matchers import Matcher
from alerts.route_file import EACH, Route
from alerts.spelling import listed
from alerts.time_intervals import NamedIntervals
from alerts.yaml_tree import Place

_GROUP_WAIT_S, _GROUP_INTERVAL_S = 30.0, 300.0
_HANDED_DOWN = ("group_by", "group_wait", "group_interval", "repeat_interval", "escalate_after", "escalate_to")
_Line = Callable[[Place], int]


class Branch(msgspec.Struct, frozen=True, kw_only=True):
    """One route with what it has from those above it. Times in seconds, infinite for never.

    `key` names it as long as its matchers and those above stay. `group_by` is None where each alert is told alone.
    """

    key: str
    line: int
    matchers: tuple[Matcher, ...]
    receivers: tuple[str, ...]
    group_by: tuple[str, ...] | None
    wait_s: float
    interval_s: float
    repeat_s: float
    escalate_after_s: float
    escalate_to: tuple[str, ...]
    goes_on: bool
    mute: tuple[str, ...]
    active: tuple[str, ...]
    below: tuple[Branch, ...] = ()

    def group(self, labels: Mapping[str, str]) -> dict[str, str]:
        """Return the labels by which an alert that has these is grouped; none where it is told alone."""
        return {name: labels.get(name, "") for name in self.group_by or ()}


class Way(msgspec.Struct, frozen=True):
    """How an alert comes to a receiver: by which route, with which labels to group by, and whether escalation calls."""

    branch: Branch
    labels: dict[str, str]
    called: bool = False


class Visit(msgspec.Struct, frozen=True):
    """A route that was looked at on an alert's way. `against` is the matcher that does not hold, "" for none."""

    branch: Branch
    depth: int
    against: str = ""
    stays: bool = False


class Routes:
    """The tree. Immutable. Without routes every alert goes to every receiver, at once and alone."""

    def __init__(
        self,
        receivers: Sequence[str],
        intervals: Sequence[NamedIntervals] = (),
        route: Route | None = None,
        line: _Line = lambda _: 0,
    ) -> None:
        """`receivers` are all there are, for a root that names none. `line` is that of a path in the file."""
        self._intervals = {each.name: each for each in intervals}
        self.written = route is not None
        place = line if self.written else lambda _: 0
        self.root = _branch(route or Route(), {"receivers": tuple(receivers)}, "{}", ("route",), place)

    @property
    def count(self) -> int:
        """How many routes there are, the root among them."""
        return _count(self.root)

    def visits(self, labels: Mapping[str, str]) -> list[Visit]:
        """Return every route that is looked at for an alert with these labels, in order."""
        found: list[Visit] = []
        _walk(self.root, labels, 0, found)
        return found

    def ends(self, labels: Mapping[str, str]) -> list[Branch]:
        """Return the routes that an alert with these labels comes to; there is one at least."""
        return [visit.branch for visit in self.visits(labels) if visit.stays]

    def told(
        self, labels: Mapping[str, str], *, instead: Sequence[str] | None = None, escalated: bool = False
    ) -> dict[str, Way]:
        """Return who is told of an alert with these labels, each by the first route that says so.

        `instead` are receivers that a rule puts in the place of those of the routes; the first route that the alert
        comes to then says when. Of an alert that was `escalated` those of `escalate_to` are told, too, unless the rule
        says nobody.
        """
        ends = self.ends(labels)
        found: dict[str, Branch] = {}
        for branch in ends if instead is None else ends[:1]:
            for receiver in branch.receivers if instead is None else instead:
                found.setdefault(receiver, branch)
        called = set[str]()
        for branch in ends if escalated and instead != () else ():
            for receiver in branch.escalate_to:
                found.setdefault(receiver, branch)
                called.add(receiver)
        return {receiver: Way(branch, branch.group(labels), receiver in called) for receiver, branch in found.items()}

    def escalate_after_s(self, labels: Mapping[str, str]) -> float | None:
        """Return the seconds after which an alert that nobody acknowledged escalates, None for never."""
        soonest = min(branch.escalate_after_s for branch in self.ends(labels))
        return None if math.isinf(soonest) else soonest

    def quiet(self, branch: Branch, minute: int) -> str:
        """Return why a route tells nobody at a minute (Unix time // 60), "" when it does."""
        muting = next((name for name in branch.mute if self._intervals[name].holds(minute)), None)
        if muting is not None:
            return f"muted during {muting!r}"
        if branch.active and not any(self._intervals[name].holds(minute) for name in branch.active):
            return f"outside its hours, {listed(branch.active)}"
        return ""


def _walk(branch: Branch, labels: Mapping[str, str], depth: int, found: list[Visit]) -> bool:
    """Note the route and those looked at below it; return whether it matches."""
    against = next((str(matcher) for matcher in branch.matchers if not matcher.matches(labels)), "")
    at = len(found)
    found.append(Visit(branch, depth, against))
    if against:
        return False
    taken = False
    for below in branch.below:
        if _walk(below, labels, depth + 1, found):
            taken = True
            if not below.goes_on:
                break
    found[at] = Visit(branch, depth, stays=not taken)
    return True


def _count(branch: Branch) -> int:
    return 1 + sum(map(_count, branch.below))


def _branch(route: Route, given: Mapping[str, Any], key: str, path: Place, line: _Line) -> Branch:
    """Make a route of what it says and of what is `given` above it."""
    own = {name: getattr(route, name) for name in _HANDED_DOWN} | {"receivers": route.told}
    given = {**given, **{name: value for name, value in own.items() if value is not None}}
    grouped = given.get("group_by")
    alone = grouped is None or EACH in grouped
    below, taken = [], set[str]()
    for number, each in enumerate(route.routes):
        name = f"{key}/{{{','.join(map(str, each.matchers))}}}"
        while name in taken:  # as one above it, which may have other times
            name += "'"
        taken.add(name)
        below.append(_branch(each, given, name, (*path, "routes", number), line))
    return Branch(
        key=key,
        line=line(path),
        matchers=route.matchers,
        receivers=tuple(dict.fromkeys(given["receivers"])),
        group_by=None if alone else grouped,
        wait_s=given.get("group_wait", 0.0 if alone else _GROUP_WAIT_S),
        interval_s=given.get("group_interval", 0.0 if alone else _GROUP_INTERVAL_S),
        repeat_s=given.get("repeat_interval", math.inf),
        escalate_after_s=given.get("escalate_after", math.inf),
        escalate_to=tuple(dict.fromkeys(given.get("escalate_to", ()))),
        goes_on=route.continue_,
        mute=route.mute_time_intervals,
        active=route.active_time_intervals,
        below=tuple(below),
    )
