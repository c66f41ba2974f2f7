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
from alerts.routes import Branch
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
        rules = self._rules()
        if not _escalates(rules.routes.root):
            return ()

        def change(view: AlertView) -> Transition | None:
            life = view.life
            after_s = rules.routes.escalate_after_s(labels_of(view.alert, state=life.state))
            if life.unheard_since is None or after_s is None or (now - life.unheard_since).total_seconds() < after_s:
                return None
            reason = f"nobody acknowledged it in {timedelta(seconds=round(after_s))}"
            return changed(life, view.alert, "escalated", "firing", at=now, reason=reason, cause="time")

        waiting = [life.alert for life in self._store.lives() if life.unheard_since is not None]
        made = [self._store.step(alert, change)[1] for alert in waiting]
        return tuple(step for step in made if step is not None)


def _escalates(branch: Branch) -> bool:
    return not math.isinf(branch.escalate_after_s) or any(map(_escalates, branch.below))
