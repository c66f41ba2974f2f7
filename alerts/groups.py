"""What each receiver has been told, and what it is to be told next, when: groups of alerts, as in Alertmanager.

An alert is, for each receiver that is told of it, in one group: that of the first route that leads there and of the
labels the route groups by. A new group waits `group_wait`, a change goes out `group_interval` after the last, what
still fires again after `repeat_interval`. Beyond Alertmanager: what grows, or is acknowledged, is told without waiting,
and who was told that an alert fires is told of its end, whatever the routes say by then.

Pure: time and silences are given; `alerts.dispatch` keeps the state and makes deliveries of what comes out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Literal

import msgspec

from alerts.alert import Event
from alerts.life import QUIET, SYSTEM, Severity, State, Transition
from alerts.notification import notification_id
from alerts.routes import Branch, Way

HOLD_S = 30.0
"""Seconds after which what a silence or a route's hours hold back is looked at again, at the latest."""
TOLD_WITHIN_S = 90.0
"""Seconds after which what stood so long has been told, when nobody knows any more whether it was."""
MAX_ALERTS = 20
"""Alerts in one notification; more make more notifications."""
_RANK: dict[str, int] = {"": -1, "warning": 0, "critical": 1}
_AT_ONCE = ("alert.escalated", "alert.acknowledged")
Ends = dict[str, str]  # by receiver
_ORDER: tuple[Event, ...] = ("alert.firing", "alert.escalated", "alert.acknowledged", "alert.resolved")


class Member(msgspec.Struct):
    """What one receiver knows of one alert.

    `state`, `severity` and `calls` (escalations it was called for) are those told last, at `told_s`.
    `routed` says that the routes still lead there, `called` that an escalation does; `delivery` is the last one.
    `again` says that it is to be told once more that the alert fires.
    """

    group: str = ""
    routed: bool = True
    called: bool = False
    state: Literal["", "firing", "acknowledged"] = ""
    severity: Literal["", "warning", "critical"] = ""
    calls: int = 0
    told_s: float = 0.0
    delivery: str = ""
    again: bool = False


class Known(msgspec.Struct):
    """An alert that receivers are to be told of, as it stands by the transition `key`, with what each was told.

    `actor` made that transition (`did` it), for `reason`; all three are empty when nobody did by hand.
    `ended` are the deliveries, by receiver, that told of its end: what comes after that has to wait for them.
    """

    alert: str
    key: str
    state: State
    severity: Severity
    at_s: float
    revision: int
    summary: str
    escalations: int = 0
    actor: str = ""
    reason: str = ""
    did: str = ""
    members: dict[str, Member] = {}
    ended: Ends = {}


class Group(msgspec.Struct):
    """Alerts told together to one receiver. Times are Unix seconds; `told_s` is 0 before it was told of anything.

    `alone` says that its route groups nothing: each alert has a group to itself.
    """

    receiver: str
    labels: dict[str, str]
    first_s: float
    alone: bool = False
    told_s: float = 0.0


class Telling(msgspec.Struct, frozen=True, kw_only=True):
    """One notification to make: `event` happened to `alerts`. Its `id` is the same whenever it is made again.

    `group` is empty where the alert is told alone; `line` is that of the route, 0 for none.
    """

    id: str
    receiver: str
    event: Event
    group: str
    labels: dict[str, str]
    alerts: tuple[Known, ...]
    after: tuple[str, ...]
    line: int


class Groups:
    """The book of who was told what. `changed_alerts` and `changed_groups` are what a caller has yet to store."""

    def __init__(self, known: Mapping[str, Known], groups: Mapping[str, Group], singly: Collection[str] = ()) -> None:
        """Take up what was stored. Until they are led anew (`lead`), alerts are where no route leads to.

        Receivers that take alerts `singly` are told of each in a notification of its own, in groups too.
        """
        self._singly = singly
        self.known, self.groups = dict(known), dict(groups)
        self._within: dict[str, set[str]] = {}
        self._ways: dict[str, Way] = {}
        self._due_s: dict[str, float] = {}
        self._held_until_s: dict[str, float] = {}
        self._now_s = math.inf  # when groups were asked for last
        self.changed_alerts: set[str] = set()
        self.changed_groups: set[str] = set()
        self.ended: dict[str, Ends] = {}
        """By alert, what was told of its end and is yet to be stored: an alert of which all is told is forgotten."""
        for alert, each in self.known.items():
            for receiver, member in each.members.items():
                self._within.setdefault(member.group, set()).add(alert)
                if member.group not in self.groups:  # it could not be read
                    alone = member.group.endswith(f":alert={alert}")
                    self.groups[member.group] = Group(receiver, {}, each.at_s, alone, member.told_s)
                    self.changed_groups.add(member.group)
        for key in self.groups.keys() - self._within.keys():  # nor could what was in it
            del self.groups[key]
            self.changed_groups.add(key)

    def step(
        self, step: Transition, ways: Mapping[str, Way], now_s: float, calls: int = 0, ended: Ends | None = None
    ) -> None:
        """Take note of a transition. `ways` lead to those who are told by now.

        An alert that comes back had been escalated `calls` times, and `ended` told of its end.
        """
        known = self.known.get(step.alert)
        if known is None:
            if step.state == "resolved":
                return
            known = self.known[step.alert] = Known(
                step.alert, step.key, step.state, step.severity, step.at.timestamp(), step.revision, step.summary, calls
            )
            known.ended = ended or {}
        if step.event not in QUIET:
            known.key, known.state = step.key, step.state
            known.at_s = step.at.timestamp()
            by_hand = step.actor != SYSTEM
            known.actor, known.reason, known.did = (step.actor, step.reason, step.event) if by_hand else ("", "", "")
            known.escalations += step.event == "escalated"
        if _RANK[step.severity] > _RANK[known.severity]:
            known.severity = step.severity
        known.revision, known.summary = step.revision, step.summary
        self.lead(known, ways, now_s)

    def lead(self, known: Known, ways: Mapping[str, Way], now_s: float) -> None:
        """Put an alert into the groups that it belongs to by these ways."""
        self.changed_alerts.add(known.alert)
        for receiver, way in ways.items():
            member = known.members.setdefault(receiver, Member(delivery=known.ended.get(receiver, "")))
            key = _key(receiver, way, known.alert)
            if member.group != key:
                self._leave(member.group, known.alert)
                member.group = key
                self._within.setdefault(key, set()).add(known.alert)
            if key not in self.groups:
                self.groups[key] = Group(receiver, way.labels, now_s, way.branch.group_by is None)
                self.changed_groups.add(key)
            self.groups[key].labels = way.labels  # as its key has them
            self._ways[key] = way
            member.routed, member.called = True, way.called
        for receiver, member in list(known.members.items()):
            if receiver not in ways:
                member.routed = False
            if not member.state and (receiver not in ways or known.state == "resolved"):
                del known.members[receiver]
                self._leave(member.group, known.alert)
        for member in known.members.values():
            self._held_until_s.pop(member.group, None)
            self._hasten(member.group, known)
        if not known.members and known.state == "resolved":
            del self.known[known.alert]

    def told_before(self, known: Known, now_s: float, lasted_s: float = math.inf) -> None:
        """Take an alert for told, as it stands, to those who are told of it: they were, before this book was lost.

        It stood so for `lasted_s`; who is told later than that was not.
        """
        self.changed_alerts.add(known.alert)
        for receiver, member in list(known.members.items()):
            key, way = member.group, self._ways.get(member.group)
            if lasted_s < TOLD_WITHIN_S + (way.branch.wait_s if way is not None else 0.0):
                continue
            if known.state == "resolved":
                self._forget(known, receiver, key)
                continue
            member.state, member.severity, member.calls = known.state, known.severity, known.escalations
            member.told_s = now_s
            self._reckon(key)

    def remind(self) -> None:
        """Have all who were told that an alert fires told so once more: the message may have been lost on its way."""
        for known in self.known.values():
            for member in known.members.values():
                if _repeats(known, member):
                    member.again = True
                    self.changed_alerts.add(known.alert)
                    self._reckon(member.group)

    def lead_anew(self) -> list[str]:
        """Forget all ways, which other rules have changed; return the alerts, each to be led by new ones.

        When groups are due follows from the ways: none is before.
        """
        self._ways.clear()
        self._due_s.clear()
        return list(self.known)

    def due(self, now_s: float) -> list[str]:
        """Return the keys of the groups to look at by now, those that wait longest first."""
        if now_s < self._now_s:
            self._set_back(now_s)
        self._now_s = now_s
        return [key for due_s, key in sorted((due_s, key) for key, due_s in self._due_s.items() if due_s <= now_s)]

    def alerts_of(self, key: str) -> list[Known]:
        """Return the alerts in a group, those that changed first first."""
        found = [self.known[alert] for alert in self._within.get(key, ())]
        return sorted(found, key=lambda known: (known.at_s, known.alert))

    def tell(
        self, key: str, now_s: float, *, silenced: Callable[[Known], bool], quiet: Callable[[Way], bool]
    ) -> list[Telling]:
        """Return what a group that is due is to be told now, and write down that it was.

        `silenced` says whether nobody may be told of an alert now, `quiet` whether a route tells nobody now.
        """
        group, way = self.groups[key], self._ways.get(key)
        members = [(known, known.members[group.receiver]) for known in self.alerts_of(key)]
        routed = any(member.routed for _, member in members)
        news = [(known, member, _news(known, member)) for known, member in members]
        wanted = [(known, member, event) for known, member, event in news if event is not None]
        if not wanted and way is not None:
            wanted = _again(members, way.branch, now_s)
        rests = routed and way is not None and quiet(way)
        wanted_now = [] if rests else [each for each in wanted if not silenced(each[0])]
        found: list[Telling] = []
        by_event: dict[Event, list[tuple[Known, Member]]] = {}
        for known, member, event in wanted_now:
            by_event.setdefault(event, []).append((known, member))
        most = 1 if group.receiver in self._singly else MAX_ALERTS
        for event in (*_ORDER, "alert.repeated"):
            of = by_event.get(event, [])
            for at in range(0, len(of), most):
                found.append(self._telling(key, group, way, event, of[at : at + most], now_s))
        if found:
            group.told_s = now_s
            self.changed_groups.add(key)
        for known, member in members:
            if known.state == "resolved" and not member.state:
                self._forget(known, group.receiver, key)
        if len(wanted_now) < len(wanted):
            self._held_until_s[key] = (now_s // HOLD_S + 1) * HOLD_S
        self._reckon(key)
        return found

    def _telling(
        self,
        key: str,
        group: Group,
        way: Way | None,
        event: Event,
        of: list[tuple[Known, Member]],
        now_s: float,
    ) -> Telling:
        steps = sorted(f"{known.alert}@{known.key}" for known, _ in of)
        again = (repr(max(member.told_s for _, member in of)),) if event == "alert.repeated" else ()
        after = tuple(dict.fromkeys(member.delivery for _, member in of if member.delivery))
        telling = Telling(
            id=notification_id(group.receiver, event, *again, *steps),
            receiver=group.receiver,
            event=event,
            group="" if group.alone else key,
            labels=group.labels,
            alerts=tuple(msgspec.structs.replace(known, members={}) for known, _ in of),
            after=after,
            line=way.branch.line if way is not None else 0,
        )
        for known, member in of:
            self.changed_alerts.add(known.alert)
            member.state = "" if known.state == "resolved" else known.state
            if known.state == "resolved":
                self.ended.setdefault(known.alert, {})[group.receiver] = known.ended[group.receiver] = telling.id
            member.severity, member.calls = known.severity, known.escalations
            member.told_s, member.delivery, member.again = now_s, telling.id, False
        return telling

    def drop(self, alert: str) -> None:
        """Forget an alert that is not there any more."""
        known = self.known.pop(alert, None)
        if known is not None:
            self.changed_alerts.add(alert)
            for member in known.members.values():
                self._leave(member.group, alert)

    def _forget(self, known: Known, receiver: str, key: str) -> None:
        del known.members[receiver]
        self._leave(key, known.alert)
        self.changed_alerts.add(known.alert)
        if not known.members:
            self.known.pop(known.alert, None)

    def _leave(self, key: str, alert: str) -> None:
        within = self._within.get(key, set())
        within.discard(alert)
        if not within and key in self.groups:
            del self.groups[key]
            self.changed_groups.add(key)
            self._within.pop(key, None)
            self._ways.pop(key, None)
            self._due_s.pop(key, None)
            self._held_until_s.pop(key, None)

    def _set_back(self, now_s: float) -> None:
        """What happened later than now, by a clock that has stepped back since, happened now."""
        for key, group in self.groups.items():
            if max(group.first_s, group.told_s) > now_s:
                group.first_s, group.told_s = min(group.first_s, now_s), min(group.told_s, now_s)
                self.changed_groups.add(key)
        for alert, known in self.known.items():
            for member in known.members.values():
                if member.told_s > now_s:
                    member.told_s = now_s
                    self.changed_alerts.add(alert)
        for key in list(self._due_s):
            self._held_until_s[key] = min(self._held_until_s.get(key, 0.0), now_s + HOLD_S)
            self._reckon(key)

    def _reckon(self, key: str) -> None:
        """Work out when a group is to be looked at next."""
        if key in self.groups:
            due_s = (self._member_due_s(key, self.known[alert]) for alert in self._within.get(key, ()))
            self._due_s[key] = max(min(due_s, default=math.inf), self._held_until_s.get(key, 0.0))

    def _hasten(self, key: str, known: Known) -> None:
        """Have a group looked at when one of its alerts, which changed, is due; too early a look does no harm."""
        self._due_s[key] = min(self._due_s.get(key, math.inf), self._member_due_s(key, known))

    def _member_due_s(self, key: str, known: Known) -> float:
        group, way = self.groups[key], self._ways.get(key)
        member = known.members[group.receiver]
        event = _news(known, member)
        if event is not None:
            if way is None or event in _AT_ONCE or not member.routed:
                return 0.0
            return group.told_s + way.branch.interval_s if group.told_s else group.first_s + way.branch.wait_s
        return member.told_s + way.branch.repeat_s if way is not None and _repeats(known, member) else math.inf


def _news(known: Known, member: Member) -> Event | None:
    """Return what the receiver has yet to be told of an alert, None for nothing."""
    if known.state == "resolved":
        return "alert.resolved" if member.state else None
    if known.state == "acknowledged":
        return "alert.acknowledged" if member.state == "firing" else None
    if not member.routed:
        return None
    if not member.state:
        return "alert.escalated" if member.called and known.did != "reopened" else "alert.firing"
    if _RANK[known.severity] > _RANK[member.severity] or (member.called and member.calls < known.escalations):
        return "alert.escalated"
    if member.state == "acknowledged":
        return "alert.firing"
    return "alert.repeated" if member.again else None


def _repeats(known: Known, member: Member) -> bool:
    return member.routed and known.state == member.state == "firing"


def _again(members: list[tuple[Known, Member]], branch: Branch, now_s: float) -> list[tuple[Known, Member, Event]]:
    """Return what is to be told again, when something is: together with what would be soon."""
    firing = [(member.told_s + branch.repeat_s, known, member) for known, member in members if _repeats(known, member)]
    if not any(due_s <= now_s for due_s, _, _ in firing):
        return []
    soon_s = now_s + min(branch.interval_s, branch.repeat_s / 2)
    return [(known, member, "alert.repeated") for due_s, known, member in firing if due_s <= soon_s]


def _key(receiver: str, way: Way, alert: str) -> str:
    if way.branch.group_by is None:
        return f"{receiver}:{way.branch.key}:alert={alert}"
    inner = ",".join(f"{name}={value!r}" for name, value in way.labels.items())
    return f"{receiver}:{way.branch.key}:{{{inner}}}"
