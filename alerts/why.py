"""Who is told of an alert, when, and why, in words: the way through the rules and the routes, hours and silences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from alerts.alert import Alert
from alerts.matchers import labels_of
from alerts.route_file import shown_s
from alerts.routes import Branch, Visit, Way
from alerts.rules import Rules
from alerts.silences import Silence

_LOOK_AHEAD_MIN = 8 * 1_440


def explain(
    rules: Rules, alert: Alert, at: datetime, *, state: str = "", silences: Sequence[Silence] = ()
) -> list[str]:
    """Return the lines of the answer, for an alert as it stands at a time. `state` is that of its life, when known."""
    labels = labels_of(alert, state=state)
    lines = [f"{alert.name}: {alert.severity}, {labels['state']}, alert {alert.id}"]
    lines.append("labels: " + ", ".join(f'{name}="{value}"' for name, value in labels.items() if value))
    lines += ["", *_rule(rules, alert)]
    lines += ["", "routes:" if rules.routes.written else "routes: none are written; every alert goes to every receiver"]
    if rules.routes.written:
        lines += [_visit(visit) for visit in rules.routes.visits(labels)]
    over = [silence for silence in silences if silence.covers(alert, at)]
    lines += ["", f"at {at.astimezone(UTC):%Y-%m-%d %H:%M} UTC:"]
    for silence in over:
        shown = ", ".join(map(str, silence.matchers))
        until = f"{silence.ends_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        lines.append(
            f"  silence {silence.id} of {silence.author} lies over it until {until}: {shown} ({silence.reason})"
        )
    told = rules.told(alert, labels)
    lines += list(_told(rules, told, at, over))
    lines += list(_escalation(rules, alert, labels, told))
    return lines


def _rule(rules: Rules, alert: Alert) -> Iterator[str]:
    limits = rules.opening_limits(alert)
    if not limits.rules:
        yield "rules: none matches"
    for number, name in enumerate(limits.rules):
        yield f"{'rules:' if number == 0 else '      '} {name}{_line(rules.rule_line(name))}"
    if limits.muted:
        yield "  mutes its series: it would open no alert now"
    if limits.receivers is not None:
        names = ", ".join(limits.receivers) or "nobody"
        yield f"  tells {names}, whatever the routes say"


def _visit(visit: Visit) -> str:
    branch = visit.branch
    condition = ", ".join(map(str, branch.matchers)) or "every alert"
    what = f"no: {visit.against} does not hold" if visit.against else "comes to it" if visit.stays else "goes in"
    if not visit.against and branch.goes_on:
        what += ", and goes on"
    return f"  {'  ' * visit.depth}{condition}{_line(branch.line)}: {what}"


def _told(rules: Rules, told: dict[str, Way], at: datetime, over: Sequence[Silence]) -> Iterator[str]:
    if not told:
        yield "  nobody is told"
    for receiver, way in told.items():
        branch = way.branch
        when = "at once" if not branch.wait_s else f"{shown_s(branch.wait_s)} after the first of its group"
        with_ = (
            "alone" if branch.group_by is None else f"with those of the same {', '.join(branch.group_by) or 'route'}"
        )
        repeat = "" if branch.repeat_s == float("inf") else f", again every {shown_s(branch.repeat_s)}"
        quiet = rules.routes.quiet(branch, int(at.timestamp()) // 60)
        held = f"; not now: {quiet}{_until(rules, branch, at)}" if quiet else "; not now: silenced" if over else ""
        route = f", by the route{_line(branch.line)}" if branch.line else ""
        yield f"  {receiver} is told {when}, {with_}{repeat}{route}{held}"


def _until(rules: Rules, branch: Branch, at: datetime) -> str:
    """Say when a route's silence of hours ends."""
    now = int(at.timestamp()) // 60
    minute = next((m for m in range(now, now + _LOOK_AHEAD_MIN) if not rules.routes.quiet(branch, m)), None)
    if minute is None:
        return ", for more than a week"
    return f", until {datetime.fromtimestamp(minute * 60, UTC):%Y-%m-%d %H:%M} UTC"


def _escalation(rules: Rules, alert: Alert, labels: dict[str, str], told: dict[str, Way]) -> Iterator[str]:
    later = rules.told(alert, labels, escalated=True)
    names = [name for name, way in later.items() if way.called or name not in told]
    after_s = rules.routes.escalate_after_s(labels)
    when = f"after {shown_s(after_s)} without an acknowledgement, or " if after_s is not None else ""
    if names:
        yield f"  {when}when it grows critical: {', '.join(names)}"


def _line(line: int) -> str:
    return f" (line {line})" if line else ""
