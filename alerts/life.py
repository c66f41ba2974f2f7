"""The life of an alert: what detectors, people and time make of it, as immutable transitions and what they add up to.

    firing ──► acknowledged ──► resolved          by detectors: firing, moved, escalated, reopened, resolved
      ▲ ▲            │             │              by people:    acknowledged, unacknowledged, resolved, reopened, noted
      │ └────────────┘             │              by time:      escalated, silenced, unsilenced, resolved
      └────────────────────────────┘ reopened: resolved by hand, it grew by a severity or somebody took that back

An alert that grows by a severity fires again, whoever acknowledged the lesser thing. One that is resolved by hand is
over for people, whatever its detector says, unless it grows by a severity or somebody takes that back: then it fires,
whoever had acknowledged it before, since all were told that it is over. Silenced is no state: it lies over one.

Pure values and rules; `alerts.store` keeps them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Literal, get_args

import msgspec

from alerts.alert import Alert
from alerts.records import Moment

SCHEMA_VERSION = 1
SYSTEM = "newsquake"
"""The actor of what nobody did by hand."""
SYSTEM_REFUSED = f"{SYSTEM} is the name of what nobody does by hand; people need another (commands take it by --as)"

Event = Literal[
    "firing",
    "escalated",
    "moved",
    "acknowledged",
    "unacknowledged",
    "resolved",
    "reopened",
    "silenced",
    "unsilenced",
    "noted",
]
State = Literal["firing", "acknowledged", "resolved"]
Severity = Literal["warning", "critical"]
SEVERITIES = get_args(Severity)
"""The lesser one first."""
QUIET: frozenset[Event] = frozenset({"silenced", "unsilenced", "moved", "noted"})
"""Events that leave the state as it is, so that no receiver is told of them."""
REOPENED_WITHIN = timedelta(hours=1)
"""How long after somebody resolved it an alert may be reopened whose surge is over."""
KEPT, KEPT_FIRST = 320, 20
"""Transitions of an alert that are kept, and how many of these are its first ones, whatever they are."""


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """One step in an alert's life. `key` is its identity: what comes twice under one key happened once.

    `state`, `severity`, `silenced` and `series` are those after the step; `silenced` says that a silence lies over the
    alert. `actor` is "newsquake" or a user, `reason` their words, of `noted` the note. An alert has `escalated` by its
    `cause`: it grew by a severity, or nobody acknowledged it in time. `silence` is the id of the silence of `silenced`
    and `unsilenced`. `revision` is the alert's when it was made. Times are those of the clock that alerting goes by.
    """

    key: str
    alert: str
    event: Event
    at: Moment
    actor: str = SYSTEM
    reason: str = ""
    state: State
    severity: Severity
    silenced: bool = False
    cause: Literal["", "severity", "time"] = ""
    silence: str = ""
    revision: int
    series: str
    name: str
    summary: str
    schema: int = SCHEMA_VERSION


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """Where an alert stands: its transitions, added up, and the last revision stored.

    `severity` is the highest so far. `since` is when the state began, by `actor` for `reason`. `unheard_since` is from
    when people have had it before them without an acknowledgement, None while none is awaited (acknowledged, resolved,
    silenced, or escalated already for want of one). `silence` is the silence over it, "" for none.
    """

    alert: str
    state: State
    severity: Severity
    since: Moment
    actor: str = SYSTEM
    reason: str = ""
    unheard_since: Moment | None = None
    silence: str = ""
    series: str
    revision: int
    transitions: int = 0
    schema: int = SCHEMA_VERSION


def is_system(name: str) -> bool:
    """Say whether a name is that of what nobody did by hand, which no person may bear."""
    return name.strip().casefold() == SYSTEM


class AlertView(msgspec.Struct, frozen=True, kw_only=True):
    """An alert with its life and its transitions, the first one first: of more than `KEPT` some are `left_out`."""

    alert: Alert
    life: Life
    transitions: tuple[Transition, ...]

    @property
    def left_out(self) -> int:
        """How many transitions it has been through that are kept no more."""
        return max(0, self.life.transitions - len(self.transitions))


def spare(steps: Sequence[Transition]) -> list[int]:
    """Return the numbers of the transitions of an alert that are kept no more, so that `KEPT` are left of them.

    The beginnings and ends of silences go first, which come and go without bound, then moves, then what nobody
    acknowledged in time, then others, of each the oldest first; the first 20 stay, and the last.
    """
    if len(steps) <= KEPT:
        return []

    def rank(number: int) -> int:
        step = steps[number]
        kinds = step.event in ("silenced", "unsilenced"), step.event == "moved", step.cause == "time"
        return kinds.index(True) if any(kinds) else len(kinds)

    return sorted(sorted(range(KEPT_FIRST, len(steps) - 1), key=rank)[: len(steps) - KEPT])


def last_told(steps: Sequence[Transition]) -> Transition:
    """Return the last transition that receivers may be told of, of one that has been through some."""
    return next((step for step in reversed(steps) if step.event not in QUIET), steps[-1])


def before(steps: Sequence[Transition], one: Transition) -> list[Transition]:
    """Return the transitions before one, which may be left out."""
    found = list(takewhile(lambda step: step.key != one.key, steps))
    return found if len(found) < len(steps) else [step for step in steps if step.at < one.at]


def follow(life: Life | None, step: Transition) -> Life:
    """Return the life after one more transition."""
    begins = life is None or life.state != step.state
    silence = life.silence if life else ""
    if step.event in ("silenced", "unsilenced"):
        silence = step.silence if step.event == "silenced" else ""
    if step.state != "firing" or silence or step.cause == "time":
        unheard_since = None
    elif life is None or begins or step.event in ("escalated", "unsilenced"):
        unheard_since = step.at
    else:
        unheard_since = life.unheard_since
    return Life(
        alert=step.alert,
        state=step.state,
        severity=step.severity,
        since=step.at if life is None or begins else life.since,
        actor=step.actor if life is None or begins else life.actor,
        reason=step.reason if life is None or begins else life.reason,
        unheard_since=unheard_since,
        silence=silence,
        series=step.series,
        revision=max(step.revision, life.revision if life else 0),
        transitions=(life.transitions if life else 0) + 1,
    )


def revised(life: Life | None, alert: Alert, silence: str = "") -> list[Transition]:
    """Return the transitions that a new revision of an alert brings; most bring none.

    `silence` is the id of one that lies over it at birth, "" for none.
    """
    if life is None:
        first = _step(alert, "firing" if alert.status == "firing" else "resolved", alert.status, alert.severity)
        if not silence or alert.status != "firing":
            return [first]
        first = msgspec.structs.replace(first, silenced=True)
        laid = _step(alert, "silenced", "firing", alert.severity, silenced=True, silence=silence)
        return [first, laid]
    grown = SEVERITIES.index(alert.severity) > SEVERITIES.index(life.severity)
    severity = alert.severity if grown else life.severity
    silenced = life.silence != ""
    found = []
    if alert.series != life.series:
        reason = f"found to be about {alert.name}"
        found.append(_step(alert, "moved", life.state, life.severity, silenced=silenced, reason=reason))
    if alert.status == "resolved":
        if life.state != "resolved":
            found.append(_step(alert, "resolved", "resolved", severity, silenced=silenced))
    elif grown:
        strength = max(alert.peak.strength, alert.peak.z)
        reason = f"grew from {life.severity} to {severity} (strength {strength:.1f})"
        if life.state == "resolved":
            found.append(_step(alert, "reopened", "firing", severity, silenced=silenced, reason=reason))
        else:
            step = _step(alert, "escalated", "firing", severity, silenced=silenced, reason=reason)
            found.append(msgspec.structs.replace(step, cause="severity"))
    return found


def changed(
    life: Life,
    alert: Alert,
    event: Event,
    state: State,
    *,
    at: datetime,
    actor: str = SYSTEM,
    reason: str = "",
    key: str = "",
    silence: str = "",
    cause: Literal["", "time"] = "",
) -> Transition:
    """Return a transition that people or time bring.

    Its own key says at which step of this life it came; no revision brings the same one (`_step`).
    """
    return Transition(
        key=key or f"{alert.id}:step {life.transitions}:{event}",
        alert=alert.id,
        event=event,
        at=at,
        actor=actor,
        reason=reason,
        state=state,
        severity=life.severity,
        silenced=event == "silenced" or (life.silence != "" and event != "unsilenced"),
        cause=cause,
        silence=silence,
        revision=alert.revision,
        series=alert.series,
        name=alert.name,
        summary=alert.summary,
    )


def _step(
    alert: Alert,
    event: Event,
    state: State,
    severity: Severity,
    *,
    silenced: bool = False,
    silence: str = "",
    reason: str = "",
) -> Transition:
    return Transition(
        key=f"{alert.id}:{alert.revision}:{event}",
        alert=alert.id,
        event=event,
        at=alert.updated_at,
        reason=reason,
        state=state,
        severity=severity,
        silenced=silenced,
        silence=silence,
        revision=alert.revision,
        series=alert.series,
        name=alert.name,
        summary=alert.summary,
    )


def not_reopened(view: AlertView, now: datetime, *, sure: bool) -> str:
    """Return why people cannot reopen an alert now, "" when they can.

    They can while its surge goes on, of which no other alert would tell, and for an hour where that is over, or nobody
    is `sure` yet that it goes on.
    """
    life = view.life
    if life.state != "resolved":
        return "is not resolved"
    if life.actor == SYSTEM:
        return f"was over at {shown(life.since)}, and nobody resolved it by hand"
    if now - life.since <= REOPENED_WITHIN:
        return ""
    if view.alert.status == "resolved":
        return f"{if_resolved(view)}, and its surge is over since: after an hour it cannot be reopened"
    if not sure:
        return f"{if_resolved(view)}, and it is not known yet whether its surge goes on: try again in a minute"
    return ""


def if_resolved(view: AlertView) -> str:
    """Return who resolved an alert and when, in words, "" when it is not resolved."""
    life = view.life
    return f"was resolved by {life.actor} at {shown(life.since)}" if life.state == "resolved" else ""


def shown(at: datetime) -> str:
    """Return a time as messages name it."""
    return f"{at:%Y-%m-%d %H:%M} {at.tzname() or ''}".rstrip()
