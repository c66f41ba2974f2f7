"""Routes as the file of rules holds them: what may stand in one, and what is said when something else does."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, InstanceOf, model_validator

from alerts.matchers import LABELS, Matcher, parse_one
from alerts.spelling import listed, near
from alerts.yaml_tree import Node, Place, Problem

EACH = "..."
"""In `group_by`: each alert is told alone."""
_DURATION = re.compile(r"(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_UNITS_S = (604_800, 86_400, 3_600, 60, 1)
_LONGEST_S = 366 * 86_400
_KNOWN = {
    "kind": ("market", "topic", "company", "company_topic", "theme"),
    "severity": ("warning", "critical"),
    "state": ("firing", "acknowledged", "resolved"),
}


def listing(value: Any) -> Any:
    """One value may stand for a list of one."""
    return [value] if isinstance(value, str) else value


def _duration(value: Any) -> Any:
    if isinstance(value, float):
        return value
    text = str(value).strip()
    found = _DURATION.fullmatch(text)
    if text == "0":
        return 0.0
    seconds = sum(int(n or 0) * unit for n, unit in zip(found.groups(), _UNITS_S, strict=True)) if found else -1
    if not text or not 0 <= seconds <= _LONGEST_S:
        raise ValueError("must be a time as 30s, 5m, 4h, 1d or 1h30m, of at most a year")
    return float(seconds)


def _or_never(value: Any) -> Any:
    return math.inf if value == "never" else _duration(value)


def _label(value: Any) -> Any:
    if value == "state":
        raise ValueError("'state' changes in an alert's life, and would part it from its group")
    if value != EACH and value not in LABELS:
        meant = near(str(value), LABELS) or f"; there are: {listed(LABELS)}"
        raise ValueError(f"no label is called {str(value)[:60]!r}{meant}")
    return value


def shown_s(seconds: float) -> str:
    """Return a time as routes write it.

    >>> shown_s(5_400), shown_s(0), shown_s(math.inf)
    ('1h30m', '0s', 'never')
    """
    if math.isinf(seconds):
        return "never"
    text, rest = "", int(seconds)
    for name, unit in zip("wdhms", _UNITS_S, strict=True):
        text += f"{rest // unit}{name}" if rest >= unit else ""
        rest %= unit
    return text or "0s"


Name = Annotated[str, Field(min_length=1, max_length=128)]
Names = Annotated[tuple[Name, ...], BeforeValidator(listing), Field(min_length=1)]
_Duration = Annotated[float, BeforeValidator(_duration)]
_Repeat = Annotated[float, BeforeValidator(_or_never), Field(ge=60)]
_Condition = Annotated[InstanceOf[Matcher], BeforeValidator(lambda value: parse_one(str(value)))]
_Label = Annotated[str, BeforeValidator(_label)]


class Route(BaseModel, frozen=True, extra="forbid"):
    """One route, as it is written."""

    matchers: Annotated[tuple[_Condition, ...], BeforeValidator(listing)] = ()
    receiver: Name | None = None
    receivers: Annotated[tuple[Name, ...] | None, BeforeValidator(listing)] = None
    group_by: Annotated[tuple[_Label, ...] | None, BeforeValidator(listing)] = None
    group_wait: _Duration | None = None
    group_interval: _Duration | None = None
    repeat_interval: _Repeat | None = None
    escalate_after: _Repeat | None = None
    escalate_to: Names | None = None
    continue_: bool = Field(default=False, alias="continue")
    mute_time_intervals: Annotated[tuple[Name, ...], BeforeValidator(listing)] = ()
    active_time_intervals: Annotated[tuple[Name, ...], BeforeValidator(listing)] = ()
    routes: tuple[Route, ...] = ()

    @model_validator(mode="after")
    def _one_meaning(self) -> Route:
        if self.receiver is not None and self.receivers is not None:
            raise ValueError("receiver and receivers say the same; keep one")
        if self.group_by is not None and EACH in self.group_by and len(self.group_by) > 1:
            raise ValueError(f"group_by: {EACH!r} stands for every label; keep it alone, or the others")
        return self

    @property
    def told(self) -> tuple[str, ...] | None:
        """Who is told; None when it is left open."""
        return (self.receiver,) if self.receiver is not None else self.receivers


def route_problems(
    route: Route,
    tree: Node,
    *,
    receivers: Collection[str],
    intervals: Collection[str],
    rules: Collection[str],
    topics: Collection[str] = (),
) -> Iterator[Problem]:
    """Yield what is wrong between routes and what they name. `topics`, where known, are all there are."""
    known: dict[str, Collection[str]] = {**_KNOWN, "rule": rules, **({"topic": topics} if topics else {})}

    def problems(route: Route, path: Place, escalates: bool) -> Iterator[Problem]:
        def at(place: Place, text: str) -> Problem:
            return Problem(*tree.place((*path, *place)), text)

        def unknown(what: str, name: str, names: Collection[str]) -> str:
            there = f"; there are: {listed(names)}" if names else "; there is none"
            return f"no {what} is called {name[:60]!r}{near(name, names) or there}"

        named: list[tuple[str, tuple[str, ...], str, Collection[str]]] = [
            ("receiver", (route.receiver,) if route.receiver else (), "receiver", receivers),
            ("receivers", route.receivers or (), "receiver", receivers),
            ("escalate_to", route.escalate_to or (), "receiver", receivers),
            ("mute_time_intervals", route.mute_time_intervals, "time interval", intervals),
            ("active_time_intervals", route.active_time_intervals, "time interval", intervals),
        ]
        for key, listed_, what, there in named:
            for number, name in enumerate(listed_):
                if name not in there:
                    yield at((key, number), unknown(what, name, there))
        for number, matcher in enumerate(route.matchers):
            names = known.get(matcher.name, ())
            if matcher.op in ("=", "!=") and matcher.value and matcher.name in known and matcher.value not in names:
                yield at(("matchers", number), unknown(matcher.name, matcher.value, names))
        escalates = escalates or route.escalate_to is not None
        if route.escalate_after is not None and not math.isinf(route.escalate_after) and not escalates:
            yield at(("escalate_after",), "escalates to nobody; name them in escalate_to, here or in a route above")
        caught = 0
        for number, below in enumerate(route.routes):
            if caught:
                yield at(
                    ("routes", number),
                    f"is never reached: the route in line {caught} matches everything; "
                    "move this one up, or give that one `continue: true`",
                )
            elif not below.matchers and not below.continue_:
                caught = tree.place((*path, "routes", number))[0]
            yield from problems(below, (*path, "routes", number), escalates)

    for key in ("matchers", "mute_time_intervals", "active_time_intervals", "continue_"):
        if getattr(route, key):
            name = key.removesuffix("_")
            place = tree.place(("route", name), of_key=True)
            yield Problem(*place, f"{name} cannot stand in the root, which takes every alert; put it in a route below")
    yield from problems(route, ("route",), escalates=False)
