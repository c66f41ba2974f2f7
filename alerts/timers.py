"""What time alone brings: silences that begin and end, alerts that nobody acknowledged in time, the end of others."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from alerts.life import AlertView, Transition, changed
from alerts.matchers import labels_of
from alerts.routes import Branch, Routes
from alerts.rules import Rules
from alerts.silences import MAX_ENDED, Silences, lay_silences
from alerts.store import KEEP_S, AlertStore

if TYPE_CHECKING:
    from redis import Redis

log = logging.getLogger(__name__)


class Timers:
    """Asked often, it makes the transitions that are due. The leader's: its `store` carries the leader's token."""

    def __init__(self, redis: Redis, store: AlertStore, rules: Callable[[], Rules], *, calm_min: int) -> None:
        """So many calm minutes end an alert."""
        self._store, self._calm = store, timedelta(minutes=calm_min)
        self._silences = Silences(redis)
        self._rules = rules
        self._quiet: _Quiet | None = None

    def needed(self) -> bool:
        """Say whether time alone can bring anything: there are silences, alerts may escalate, or some linger."""
        return self._silences.any() or _escalates(self._rules().routes.root) or self.linger()

    def linger(self) -> bool:
        """Say whether alerts are open whose detectors end them no more: people reopened them after that."""
        return bool(self._store.reopened())

    def step(self, now: datetime) -> tuple[Transition, ...]:
        """Return the transitions that are due at a time, stored.

        Raises:
            redis.RedisError: the server failed.
            FencedError: another process leads.
        """
        silences = self._silences.all()
        ended = [each for each in silences if each.ends_at <= now]  # those that ended last, first
        oldest = now - timedelta(seconds=KEEP_S)
        self._silences.drop(each.id for n, each in enumerate(ended) if n >= MAX_ENDED or each.ends_at < oldest)
        made = self._end(now) + tuple(lay_silences(self._store, silences, now)) + self._escalate(now)
        for step in made:
            log.info("%s %s (%s): %s", step.event, step.alert, step.reason, step.summary)
        return made

    def _end(self, now: datetime) -> tuple[Transition, ...]:
        """Resolve what was reopened after its detector's end, after as many minutes as calm ones end any alert.

        What surges again on its series opens an alert of its own, which tells of it from then on. Of two that were
        reopened at the same moment the newer one does.
        """
        lingering = self._store.reopened()
        for each in lingering:
            self._store.settle(each)
        lingering = self._store.reopened() if lingering else []
        found = self._store.open(reopened=True) if lingering else []
        found.sort(key=lambda alert: (alert.status == "firing", alert.started_at, alert.id))
        tells = {alert.series: alert.id for alert in found}

        def change(view: AlertView) -> Transition | None:
            if view.life.state == "resolved" or view.alert.status == "firing":
                return None
            since = max((step.at for step in view.transitions if step.event == "reopened"), default=view.life.since)
            if (other := tells.get(view.alert.series, view.alert.id)) != view.alert.id:
                reason = f"another alert tells of it by now ({other})"
            elif now - since >= self._calm:
                reason = f"its surge is over, and it was reopened {self._calm} ago"
            else:
                return None
            return changed(view.life, view.alert, "resolved", "resolved", at=now, reason=reason)

        made = [self._store.step(each, change)[1] for each in lingering]
        return tuple(step for step in made if step is not None)

    def _escalate(self, now: datetime) -> tuple[Transition, ...]:
        routes = self._rules().routes
        if not _escalates(routes.root):
            return ()
        if self._quiet is None or self._quiet.routes is not routes:
            self._quiet = _Quiet(routes)
        quiet = self._quiet

        def change(view: AlertView) -> Transition | None:
            life = view.life
            if life.unheard_since is None:
                return None
            since_s, now_s = life.unheard_since.timestamp(), now.timestamp()
            ends = routes.ends(labels_of(view.alert, state=life.state))
            due = [end.escalate_after_s for end in ends if quiet.heard(end, since_s, now_s, end.escalate_after_s)]
            if not due:
                return None
            reason = f"nobody acknowledged it in {timedelta(seconds=round(min(due)))}"
            return changed(life, view.alert, "escalated", "firing", at=now, reason=reason, cause="time")

        waiting = {life.alert: life.unheard_since for life in self._store.lives() if life.unheard_since is not None}
        made = [self._store.step(alert, change)[1] for alert in waiting]
        quiet.forget(min(waiting.values(), default=now).timestamp())
        return tuple(step for step in made if step is not None)


class _Quiet:
    """When routes told nobody. Each minute of a route is looked at once, however many alerts wait, and however long."""

    def __init__(self, routes: Routes) -> None:
        self.routes = routes
        self._counts: dict[str, _Count] = {}

    def heard(self, branch: Branch, since_s: float, now_s: float, enough_s: float) -> bool:
        """Say whether people had an alert before them for `enough_s`: hours in which the route rests do not count."""
        if now_s - since_s < enough_s:
            return False
        if not branch.mute and not branch.active:
            return True
        first, last = int(since_s // 60), int(now_s // 60)
        count = self._counts.get(branch.key)
        if count is None or not count.first <= last or count.end < first:
            count = self._counts[branch.key] = _Count(lambda minute: not self.routes.quiet(branch, minute), last)
        count.grow(last + 1)
        if not count.between(last, last + 1):
            return False
        count.reach(first, last, enough_s)
        if count.first > first:
            return True
        whole_s = 60 * count.between(first + 1, last) if first < last else 0
        begun_s = (first + 1) * 60 - since_s if first < last and count.between(first, first + 1) else 0
        return begun_s + whole_s + now_s - max(since_s, last * 60) >= enough_s

    def forget(self, before_s: float) -> None:
        """Drop the minutes before a time, which nobody asks for again."""
        for key, count in list(self._counts.items()):
            count.drop(int(before_s // 60))
            if not count:
                del self._counts[key]


class _Count:
    """The minutes in which a route tells people: `_sums[n]` of them lie from some minute up to `first + n`."""

    def __init__(self, tells: Callable[[int], bool], minute: int) -> None:
        self._tells, self.first, self._sums = tells, minute, [0]

    def __len__(self) -> int:
        return len(self._sums) - 1

    @property
    def end(self) -> int:
        """The minute after the last that is counted."""
        return self.first + len(self)

    def between(self, first: int, end: int) -> int:
        """Return how many of the minutes from the first up to, but without, the end are such; all must be counted."""
        return self._sums[end - self.first] - self._sums[first - self.first]

    def grow(self, end: int) -> None:
        """Count up to a minute."""
        for minute in range(self.end, end):
            self._sums.append(self._sums[-1] + self._tells(minute))

    def reach(self, first: int, end: int, enough_s: float) -> None:
        """Count back from the first minute known, to `first` or as far as there are `enough_s` before the end."""
        missing = math.ceil(enough_s / 60) - self.between(self.first, end)
        minute, sums = self.first, [self._sums[0]]
        while minute > first and missing > 0:
            minute -= 1
            told = self._tells(minute)
            sums.append(sums[-1] - told)
            missing -= told
        self.first, self._sums = minute, sums[:0:-1] + self._sums

    def drop(self, first: int) -> None:
        """Forget the minutes before one."""
        gone = min(max(0, first - self.first), len(self))
        del self._sums[:gone]
        self.first += gone


def _escalates(branch: Branch) -> bool:
    return not math.isinf(branch.escalate_after_s) or any(map(_escalates, branch.below))
