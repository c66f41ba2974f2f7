"""The dispatcher: follows the log of transitions and makes deliveries of it, by routes, groups and silences.

1. read what the log has after the cursor
2. each transition goes into the groups of those who are told of it (`alerts.groups`)
3. what a group is due to tell, and no silence or hours hold back, becomes deliveries
4. one Lua call moves the cursor, the groups' state and the deliveries together, if this process still leads

A crash before 4 loses nothing, since the cursor stands; after it nothing is repeated. What a receiver gets has an id
that follows from what it is told, so that even a dispatcher that lost its state repeats under the same ids.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from alerts.alert import Alert, AlertError
from alerts.cursors import number_of
from alerts.delivery import Delivery, delivery_of
from alerts.groups import TOLD_WITHIN_S, Groups, Known, Telling
from alerts.life import AlertView, Transition, before, last_told
from alerts.matchers import labels_of, matches_all
from alerts.metrics import AlertsMetrics
from alerts.notification import Notification, as_told, by_hand
from alerts.routes import Way
from alerts.rules import Rules
from alerts.silences import Silence, Silences, silence_over
from alerts.store import LOG, AlertStore, FencedError
from alerts.stored import step_of
from alerts.told_book import MovedError, ToldBook

if TYPE_CHECKING:
    from redis import Redis

log = logging.getLogger(__name__)

_ENTRIES, _MANY = 200, 100_000


class Dispatcher:
    """Makes deliveries; one process at a time, the leader, whose `token` every write carries.

    Any error leaves what is stored as it was; the next `step` begins there.
    """

    def __init__(
        self,
        redis: Redis,
        rules: Callable[[], Rules],
        metrics: AlertsMetrics,
        token: Callable[[], str] = str,
        *,
        desk_url: str = "",
        singly: Collection[str] = (),
    ) -> None:
        """`rules` returns those in force. Messages link to the desk at `desk_url`.

        Receivers that take alerts `singly` get a message for each.
        """
        self._redis = redis
        self._rules_now = rules
        self._metrics = metrics
        self._desk_url = desk_url
        self._store = AlertStore(redis)
        self._silences = Silences(redis)
        self._told_book = ToldBook(redis, token, singly)
        self._rules: Rules | None = None
        self._book: Groups | None = None
        self._holding: list[Silence] | None = None
        self._stored, self._cursor = b"", ""  # what stands in Redis, and the last entry that was taken note of
        self._behind = self._new = False
        self._lost: set[str] = set()  # entries that could not be read
        self._put_back: set[str] = set()  # alerts that came back from Kafka
        self._alerts: dict[str, Alert | None] = {}
        self.failing = ""
        """Why nobody is told of anything at the moment; "" when all is well."""

    def run(self, stop: threading.Event, now: Callable[[], float], *, poll_s: float = 0.2) -> None:
        """Dispatch until `stop` is set or another process leads. `now` is the time that alerting goes by (Unix).

        While Redis cannot answer, wait and try again.
        """
        wait_s = poll_s
        while not stop.is_set():
            try:
                more, self.failing = self.step(now(), time.time()), ""
                if more:
                    continue
                wait_s = poll_s
            except FencedError:
                log.warning("another process leads alerting; what this one was about to dispatch was refused")
                return
            except (RedisError, MovedError) as exc:
                wait_s = min(wait_s * 2, 30.0)
                self._metrics.redis_errors.inc()
                self.failing = f"nobody is told of alerts: {exc}"
                log.warning("dispatching failed (%s); trying again in %.1f s", exc, wait_s)
            except Exception as exc:  # a thread that ends silently would stop all alerts
                wait_s = 30.0
                self._metrics.unexpected_errors.labels(part="dispatching").inc()
                self.failing = f"nobody is told of alerts: {exc!r}"
                log.exception("dispatching: unexpected failure; trying again in 30 s")
            stop.wait(wait_s)

    def step(self, now_s: float, wall_s: float) -> bool:
        """Take note of what is new in the log, and tell what is due at `now_s`; return whether more waits.

        `now_s` is the time that alerting goes by, `wall_s` that of the senders; both Unix.

        Raises:
            redis.RedisError: the server failed.
            FencedError: another process leads.
            MovedError: another process dispatches.
        """
        try:
            return self._step(now_s, wall_s)
        except BaseException:
            self._book = None
            raise

    def _step(self, now_s: float, wall_s: float) -> bool:
        self._alerts.clear()
        self._holding = None
        book = self._book = self._book or self._load()
        before = self._cursor
        rules = self._rules_now()
        if self._rules is not rules:
            self._rules = rules
            self._lead_all(book, now_s)
        deliveries: list[Delivery] = []
        if self._new:
            self._relive_all(book, now_s)
        elif self._lost or self._put_back:
            self._relive_lost(book, now_s)
            deliveries += self._due(book, now_s, wall_s)  # before the log says that it is over
        views = self._store.views(open=True, limit=_MANY) if self._behind else []
        entries: Any = self._redis.xrange(LOG, min=f"({before}" if before else "-", count=_ENTRIES)
        if self._behind and not entries:
            self._catch_up(book, views, now_s)
        steps: list[Transition] = []
        waits_s: list[float] = []
        for entry, fields in entries:
            self._cursor = entry.decode()
            if (step := step_of(self._cursor, fields)) is None:
                continue
            if step.event != "firing" and step.alert not in book.known and self._told_book.was_put_back(step.alert):
                self._relive_before(book, step, now_s)
                deliveries += self._due(book, now_s, wall_s)
            self._note(book, step, now_s)
            steps.append(step)
            if step.event == "acknowledged":
                fired = [each.at for each in self._before(step) if each.event in ("firing", "reopened")]
                waits_s += [max(0.0, (step.at - at).total_seconds()) for at in fired[-1:]]
            deliveries += self._due(book, now_s, wall_s)
        deliveries += self._due(book, now_s, wall_s)
        if book.changed_alerts or book.changed_groups or self._stored != self._cursor.encode():
            self._told_book.commit(book, self._stored, self._cursor, deliveries, wall_s)
            self._stored = self._cursor.encode()
        for step in steps:
            self._metrics.transitions.labels(event=step.event).inc()
        for wait_s in waits_s:
            self._metrics.acknowledge_seconds.observe(wait_s)
        for delivery in deliveries:
            self._metrics.notifications.labels(event=delivery.event).inc()
        self._metrics.groups.set(len(book.groups))
        return len(entries) == _ENTRIES or self._behind

    def _load(self) -> Groups:
        book, cursor, self._lost, self._put_back = self._told_book.load()
        self._stored, self._cursor = cursor.raw, cursor.entry
        if cursor.mended:
            self._metrics.unexpected_errors.labels(part="dispatching").inc()
        first: Any = self._redis.xrange(LOG, count=1)
        # The log begins after the cursor, or was never read: it may have lost what alerts have been through.
        self._new = not self._cursor
        cut = bool(first) and not self._new and number_of(first[0][0].decode()) > number_of(self._cursor)
        self._behind = self._new or cut or cursor.lost
        if cut:
            log.warning("the log begins after what was dispatched last; what is open is looked through")
        self._rules = None
        return book

    def _lead_all(self, book: Groups, now_s: float) -> None:
        """Ask the routes anew who is told of each alert."""
        for id_ in book.lead_anew():
            known, alert = book.known[id_], self._alert(id_)
            if alert is None:
                log.warning("alert %s is not there any more; nobody is told of its end", id_)
                book.drop(id_)
            else:
                book.lead(known, self._ways(alert, known.severity, known.state, known.escalations > 0), now_s)

    def _note(self, book: Groups, step: Transition, now_s: float) -> None:
        alert, known = self._alert(step.alert), book.known.get(step.alert)
        if alert is None:
            log.warning("%s of alert %s is skipped: the alert is not there any more", step.event, step.alert)
            book.drop(step.alert)
            return
        calls, ended = known.escalations if known else 0, dict[str, str]()
        if known is None and step.event != "firing" and step.state != "resolved":  # it comes back
            calls, ended = sum(each.event == "escalated" for each in self._before(step)), self._ended(book, step.alert)
        escalated = step.event == "escalated" or calls > 0
        book.step(step, self._ways(alert, step.severity, step.state, escalated), now_s, calls, ended)

    def _before(self, step: Transition) -> list[Transition]:
        """Return what an alert had been through before a step."""
        view = self._store.view(step.alert)
        return before(view.transitions, step) if view is not None else []

    def _ended(self, book: Groups, alert: str) -> dict[str, str]:
        """Return by receiver which delivery told of an alert's end last."""
        return self._told_book.ended(alert) | book.ended.get(alert, {})

    def _catch_up(self, book: Groups, views: Sequence[AlertView], now_s: float) -> None:
        """Take note of how alerts stand where the log no longer had what they went through."""
        for view in views:
            known, last = book.known.get(view.alert.id), last_told(view.transitions)
            if known is None or known.key != last.key:  # else it was noted, and counts once
                self._note(book, last, now_s)
        for id_ in set(book.known) - {view.alert.id for view in views}:
            view_of_id = self._store.view(id_)
            if view_of_id is None:
                book.drop(id_)
            elif view_of_id.life.state == "resolved":
                self._note(book, last_told(view_of_id.transitions), now_s)
        self._behind = False

    def _relive_all(self, book: Groups, now_s: float) -> None:
        """Take note of what alerts had been through when they were put back (`alerts.rebuild`), which no log tells.

        Of what fires still people are told once more: deliveries that waited are lost.
        """
        views = self._store.views(open=False, limit=_MANY)
        new = self._yet_to_come()
        for view in views:
            if view.alert.id not in book.known:
                self._relive(book, view, _past(view, new), now_s)
        book.remind()
        self._new = False
        self._lost.clear()
        self._put_back.clear()

    def _relive_lost(self, book: Groups, now_s: float) -> None:
        """Take note anew of alerts whose entries could not be read, in doubt about their last transition.

        Those that were put back have been told as they stand.
        """
        views = [view for id_ in sorted(self._lost | self._put_back) if (view := self._store.view(id_)) is not None]
        new = self._yet_to_come()
        for view in views:
            self._relive(book, view, _past(view, new), now_s, in_doubt=view.alert.id in self._lost)
        self._lost.clear()
        self._put_back.clear()

    def _relive_before(self, book: Groups, step: Transition, now_s: float) -> None:
        """Take an alert that was put back since this book was read for told, as it stood before a transition."""
        view = self._store.view(step.alert)
        if view is not None:
            past = [each for each in before(view.transitions, step) if each.event != "noted"]
            self._relive(book, view, past, now_s)

    def _yet_to_come(self) -> set[str]:
        """Return the keys of the transitions that the log has after the cursor. Views read before have none besides."""
        entries: Any = self._redis.xrange(LOG, min=f"({self._cursor}" if self._cursor else "-")
        steps = [step_of(entry.decode(), fields, logging.DEBUG) for entry, fields in entries]
        return {step.key for step in steps if step is not None}

    def _relive(
        self, book: Groups, view: AlertView, past: Sequence[Transition], now_s: float, *, in_doubt: bool = False
    ) -> None:
        """Take note of an alert's past, and that people were told of all that no silence kept back.

        In doubt they were not: told twice is better than never. That is so of what a silence was laid over at once, and
        of the last transition where it is `in_doubt`. Of an end that a silence keeps back still they are told after it.
        """
        held_back = bool(past) and past[-1].state == "resolved" and self._keeps_back(view.alert, past[-1], now_s)
        if past and past[-1].state == "resolved" and not (held_back or in_doubt):
            return
        for step, after in zip_longest(past, past[1:]):
            self._note(book, step, now_s)
            known = book.known.get(step.alert)
            if known is None or step.silenced or (after is None and (held_back or in_doubt)):
                continue
            silenced = after is not None and after.event == "silenced"
            book.told_before(known, now_s, (after.at - step.at).total_seconds() if silenced else math.inf)

    def _keeps_back(self, alert: Alert, end: Transition, now_s: float) -> bool:
        """Say whether silences have lain over an alert without a break since it ended, or soon after, till now."""
        over = [each for each in self._silences.all() if matches_all(each.matchers, labels_of(alert))]
        covered, from_ = end.at, end.at + timedelta(seconds=TOLD_WITHIN_S)
        for silence in sorted(over, key=lambda each: each.starts_at):
            if silence.starts_at <= from_ and silence.ends_at > covered:
                covered = from_ = silence.ends_at
        return covered.timestamp() > now_s - TOLD_WITHIN_S

    def _due(self, book: Groups, now_s: float, wall_s: float) -> list[Delivery]:
        """Return the deliveries of what groups are due to tell now."""
        found = []
        for key in book.due(now_s):
            told = book.tell(
                key,
                now_s,
                silenced=lambda known: self._silenced(known, now_s),
                quiet=lambda way: (
                    self._rules is not None and self._rules.routes.quiet(way.branch, int(now_s) // 60) != ""
                ),
            )
            found += [made for each in told if (made := self._delivery(each, now_s, wall_s)) is not None]
        return found

    def _silenced(self, known: Known, now_s: float) -> bool:
        at = datetime.fromtimestamp(now_s, UTC)
        alert = self._alert(known.alert)
        return alert is not None and silence_over(self._holding_at(at), alert, at) != ""

    def _holding_at(self, at: datetime) -> list[Silence]:
        if self._holding is None:
            self._holding = [silence for silence in self._silences.all() if silence.holds(at)]
        return self._holding

    def _ways(self, alert: Alert, severity: str, state: str, escalated: bool) -> dict[str, Way]:
        labels = labels_of(alert, state=state) | {"severity": severity}
        return self._rules.told(alert, labels, escalated=escalated) if self._rules is not None else {}

    def _alert(self, id_: str) -> Alert | None:
        """Return an alert's last revision, as it stood in this step."""
        if id_ not in self._alerts:
            try:
                self._alerts[id_] = self._store.get(id_)
            except AlertError as exc:  # written by another version; it must not hold up the others
                log.error("alert %s cannot be read, and is passed over (%s)", id_, exc)
                self._alerts[id_] = None
        return self._alerts[id_]

    def _delivery(self, told: Telling, now_s: float, wall_s: float) -> Delivery | None:
        """Return the delivery of a telling, None when none of its alerts is there any more."""
        alerts = [as_told(alert, known) for known in told.alerts if (alert := self._alert(known.alert)) is not None]
        if not alerts:
            return None
        notification = Notification(
            id=told.id,
            receiver=told.receiver,
            event=told.event,
            group=told.group,
            group_labels=told.labels,
            alerts=tuple(alerts),
            by=by_hand(told),
            at=datetime.fromtimestamp(now_s, UTC),
            desk_url=self._desk_url,
            why=f"the route in line {told.line}" if told.line else "",
        )
        return delivery_of(notification, wall_s, after=told.after)


def _past(view: AlertView, new: Collection[str]) -> list[Transition]:
    """Return what an alert has been through, without what is `new` and what people only wrote down."""
    return [step for step in view.transitions if step.key not in new and step.event != "noted"]
