"""Settings to try beside those that are set: `alerts.surge.threshold_z=3.3,3.5,4`, and what became of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from math import prod
from typing import Any
from urllib.parse import quote

import msgspec
from pydantic import BaseModel, ValidationError

from alerts.alert import Alert
from alerts.sessions import ExchangeError, Sessions
from alerts.settings import AlertsSettings
from alerts.spelling import near
from stream.events import Estimate, Verdict, rate
from stream.kept_windows import Made

AS_SET = "as set"
MOST = 32
_ROOM = "alerts."
_TRIED = ("surge", "discovery", "themes", "critical_z", "stories", "rules")
"""What a run judges by; the rest of `alerts` counts items or tells people."""


class VariantError(ValueError):
    """A setting that cannot be tried, or not with that value; the message says why."""


class Variant(msgspec.Struct, frozen=True):
    """One of the settings to judge with. `name` says what is tried, and is the name of a folder."""

    name: str
    alerts: AlertsSettings


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a variant: its alerts, a week too, and how they stand to known events; or why there are none."""

    name: str
    alerts: list[Alert] = []
    a_week: Estimate = Estimate(None)
    verdict: Verdict | None = None
    failure: str = ""

    @classmethod
    def of(
        cls, name: str, outcome: list[Alert] | str, made: Made, against: Callable[[list[Alert]], Verdict | None]
    ) -> Tried:
        """Return what became of one: its alerts in the minutes of `made`, laid `against` events, or why none."""
        if isinstance(outcome, str):
            return cls(name=name, failure=outcome)
        a_week = rate(len(outcome), (made.last - made.first + 1) / 10_080)
        return cls(name=name, alerts=outcome, a_week=a_week, verdict=against(outcome))


def variants_of(alerts: AlertsSettings, asked: Sequence[str]) -> list[Variant]:
    """Return `alerts` with each value that is asked for, `SETTING=VALUE,VALUE...`; of several settings all pairs.

    Raises:
        VariantError: a name or value is wrong, or there are too many.
    """
    known = [name for each in _TRIED for name in _names(each)]
    tried: dict[str, dict[str, Any]] = {}
    for words in asked:
        name, _, values = words.partition("=")
        if name not in known:
            meant = near(name, known) or near(_ROOM + name, known) or "; those of surge, discovery and themes can"
            raise VariantError(f"{name!r} is no setting of alerts that can be tried{meant}")
        if name in tried:
            raise VariantError(f"{name} is given twice: give all its values at once, {name}=A,B")
        tried[name] = _values(name, values)
    if (number := prod(map(len, tried.values()))) > MOST:
        raise VariantError(f"{number} variants are too many at once: {MOST} at most")
    found = []
    for chosen in product(*(values.items() for values in tried.values())):
        changed, parts = alerts, []
        for name, (shown, value) in zip(tried, chosen, strict=True):
            path = name.removeprefix(_ROOM)
            changed = _with(changed, path.split("."), value)
            parts.append(f"{path}={quote(shown, safe='')}")
        found.append(Variant(",".join(parts), changed))
    return found if tried else []


def _names(top: str) -> list[str]:
    section = getattr(AlertsSettings(), top)
    inner = [f".{name}" for name in type(section).model_fields] if isinstance(section, BaseModel) else [""]
    return [f"{_ROOM}{top}{name}" for name in inner]


def _values(name: str, words: str) -> dict[str, Any]:
    """Return the values by what they were called; of those that are the same, the first."""
    path = name.removeprefix(_ROOM).split(".")
    found: dict[str, Any] = {}
    for word in map(str.strip, words.split(",")):
        if not word:
            raise VariantError(f"{name} needs values, with commas between them: {name}=A,B")
        given: Any = word
        for part in reversed(path):
            given = {part: given}
        try:
            value: Any = AlertsSettings.model_validate(given)
            for part in path:
                value = getattr(value, part)
            if path[-1] == "exchange":
                Sessions(value)
        except ValidationError as exc:
            raise VariantError(f"{name}={word}: {exc.errors()[0]['msg']}") from exc
        except ExchangeError as exc:
            raise VariantError(f"{name}={word}: {exc}") from exc
        if value not in found.values():
            found[word] = value
    return found


def _with(settings: AlertsSettings, path: Sequence[str], value: Any) -> AlertsSettings:
    top, *inner = path
    if inner:
        value = getattr(settings, top).model_copy(update={inner[0]: value})
    return settings.model_copy(update={top: value})
