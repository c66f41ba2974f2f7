"""What time alone brings: silences that begin and end, and alerts that nobody acknowledged in time."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from alerts.actions import lay_silences
from alerts.life import AlertView, Transition, changed
from alerts.matchers import labels_of
from alerts.routes import Branch, Routes
from alerts.rules import Rules
from alerts.silences import MAX_ENDED, Silences
from alerts.store import KEEP_S, AlertStore

if TYPE_CHECKING:
    from redis import Redis

log = logging.getLogger(__name__)


class Timers:
    """Asked often, it makes the transitions that are due. The leader's: its `store` carries the leader's token."""

    def __init__(self, redis: Redis, store: AlertStore, rules: Callable[[], Rules]) -> None:
        self._store = store
        self._silences = Silences(redis)
        self._rules = rules

    def needed(self) -> bool:
        """Say whether time alone can bring anything: there are silences, or alerts may escalate."""
        return self._silences.any() or _escalates(self._rules().routes.root)

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
        made = lay_silences(self._store, silences, now) + self._escalate(now)
        for step in made:
            log.info("%s %s (%s): %s", step.event, step.alert, step.reason, step.summary)
        return made

    def _escalate(self, now: datetime) -> tuple[Transition, ...]:
        routes = self._rules().routes
        if not _escalates(routes.root):
            return ()
        quiet = _Quiet(routes)

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

        waiting = [life.alert for life in self._store.lives() if life.unheard_since is not None]
        made = [self._store.step(alert, change)[1] for alert in waiting]
        return tuple(step for step in made if step is not None)


class _Quiet:
    """When routes told nobody. Many alerts wait at once, so that each minute of a route is looked at once."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._known: dict[tuple[str, int], bool] = {}

    def heard(self, branch: Branch, since_s: float, now_s: float, enough_s: float) -> bool:
        """Say whether people had an alert before them for `enough_s`: hours in which the route rests do not count."""
        if now_s - since_s < enough_s:
            return False
        if not branch.mute and not branch.active:
            return True
        first, minute, heard_s = int(since_s // 60), int(now_s // 60), 0.0
        if self._is(branch, minute):
            return False
        while minute >= first and heard_s < enough_s:
            if not self._is(branch, minute):
                heard_s += min(now_s, (minute + 1) * 60) - max(since_s, minute * 60)
            minute -= 1
        return heard_s >= enough_s

    def _is(self, branch: Branch, minute: int) -> bool:
        at = branch.key, minute
        if at not in self._known:
            self._known[at] = self._routes.quiet(branch, minute) != ""
        return self._known[at]


def _escalates(branch: Branch) -> bool:
    return not math.isinf(branch.escalate_after_s) or any(map(_escalates, branch.below))
