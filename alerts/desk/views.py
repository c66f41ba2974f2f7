"""What pages and API show: alerts in brief and in full, the table of now with its filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import msgspec
from markupsafe import Markup

from alerts.alert import Alert, Story
from alerts.course import Bin
from alerts.desk import charts
from alerts.desk.held import KeptTable
from alerts.desk.problems import ProblemError
from alerts.desk.ranking import Place
from alerts.desk.state import Desk
from alerts.feedback import Precision, Said, topic_of
from alerts.history import Told
from alerts.judgement import State
from alerts.life import AlertView, Life, Transition
from alerts.now import Row
from alerts.series import kind, label

MOST = 10_000
"""Alerts of a list, however many are asked for."""
_NOT_LISTED = "the list has no such alert (any more)"
StateOf = Literal["", State]
Listed = Literal["open", "firing", "acknowledged", "silenced", "resolved", "all"]
Kind = Literal["", "market", "topic", "company", "company_topic"]
ListOrder = Literal["newest", "mine"]
Order = Literal["unusual", "share", "volume", "name"]
_TOLD = 100


class Brief(msgspec.Struct, frozen=True, kw_only=True):
    """An alert in one line. `silenced` says that nobody is told of it; `since` is when its state began, by `actor`.

    `notes` says how many there are on it. `place` is its place in the list of who asks, null when the list is not
    ordered for them.
    """

    id: str
    name: str
    series: str
    kind: str
    state: str
    severity: str
    silenced: bool
    started_at: datetime
    updated_at: datetime
    since: datetime
    actor: str
    summary: str
    window_min: int
    observed: int
    expected: float
    z: float
    publishers: int
    parent: str
    explains: int
    notes: int = 0
    place: Place | None = None


class Full(msgspec.Struct, frozen=True, kw_only=True):
    """An alert with everything that is known of it; of its deliveries the last 100, after `told_before` others.

    Of more than 320 transitions some are `left_out`, silences' beginnings and ends before others.
    """

    alert: Alert
    life: Life
    transitions: tuple[Transition, ...]
    left_out: int
    course: list[Bin]
    said: list[Said]
    told: list[Told]
    told_before: int

    @property
    def view(self) -> AlertView:
        """The alert as it is stored."""
        return AlertView(alert=self.alert, life=self.life, transitions=self.transitions)


class Chart(NamedTuple):
    """A chart, the length of its bins, and whether it shows a price; empty where there is nothing to draw."""

    svg: Markup
    bin_min: int
    has_price: bool


class Headline(NamedTuple):
    """A story of an alert with its place, what who looks said of it, by what it is about, and what others said."""

    number: int
    story: Story
    own: Mapping[str, Said]
    others: list[Said]


class Alerts(msgspec.Struct, frozen=True, kw_only=True):
    """A list of alerts, and how many of each state there are among the open ones.

    The newest comes first, or when `ranked` the critical ones, and what who asks is most likely to want. `more` are
    those behind the last; of resolved ones that are searched for there are at least so many among the newest 10,000.
    """

    alerts: list[Brief]
    counts: dict[str, int]
    ranked: bool = False
    more: int = 0


class PrecisionTable(msgspec.Struct, frozen=True, kw_only=True):
    """How many verdicts of the last 90 days say useful and how many false alarm, by rule and by topic."""

    rows: list[Precision]


class NowTable(msgspec.Struct, frozen=True, kw_only=True):
    """The table of now, or what the filters leave of it. `minute` is None when alerting has written none yet.

    `replay` says that alerting goes by the time of the items, as of a history that is played again.
    """

    minute: int | None
    at: datetime | None
    age_s: float | None
    replay: bool = False
    series: int
    found: int
    warming_up: str
    missing: int
    rows: list[Row]


def brief(view: AlertView) -> Brief:
    """Return an alert in one line."""
    alert, life = view.alert, view.life
    return Brief(
        id=alert.id,
        name=alert.name,
        series=alert.series,
        kind=kind(alert.series),
        state=life.state,
        severity=life.severity,
        silenced=bool(life.silence),
        started_at=alert.started_at,
        updated_at=alert.updated_at,
        since=life.since,
        actor=life.actor,
        summary=alert.summary,
        window_min=alert.peak.window_min,
        observed=alert.peak.observed,
        expected=alert.peak.expected,
        z=alert.peak.z,
        publishers=alert.publishers,
        parent=label(alert.parent) if alert.parent else "",
        explains=alert.explains,
        notes=sum(step.event == "noted" for step in view.transitions),
    )


def alerts(desk: Desk, state: Listed, words: str, limit: int, *, who: str = "", after: str = "") -> Alerts:
    """Return the newest alerts of a state with all the words in their texts, in the order for `who` if one is given.

    Raises:
        ProblemError: there is no alert `after` in the list, or the order is that for `who`, in which nothing keeps its
            place.
    """
    if who and after:
        raise ProblemError(422, "after goes with order=newest alone: the other order changes with what people do")
    wanted = words.casefold().split()
    if state in ("resolved", "all"):
        lives = desk.store.lives()
        found, more = _part(desk, state, wanted, limit, after, {life.alert for life in lives})
    else:
        views = desk.store.views(open=True)
        lives, found = [view.life for view in views], [view for view in views if _is_in(view, state, wanted)]
        if after:
            place = next((n for n, view in enumerate(found) if view.alert.id == after), None)
            if place is None:
                raise ProblemError(404, _NOT_LISTED)
            found = found[place + 1 :]
        more, found = max(0, len(found) - limit), found[:limit]
    counts = {"firing": 0, "acknowledged": 0, "silenced": 0}
    for life in lives:
        counts["silenced" if life.silence else life.state] += 1
    briefs = [brief(view) for view in found]
    pairs = ((view.alert, topic_of(view.alert)) for view in found)
    places = desk.ranking.places(who, pairs, desk.actions.now()) if who else None
    if places is None:
        return Alerts(alerts=briefs, counts=counts, more=more)
    briefs = [msgspec.structs.replace(each, place=place) for each, place in zip(briefs, places, strict=True)]
    scores = {each.id: (each.severity != "critical", -place.score) for each, place in zip(briefs, places, strict=True)}
    return Alerts(alerts=sorted(briefs, key=lambda each: scores[each.id]), counts=counts, ranked=True, more=more)


def _part(
    desk: Desk, state: Listed, words: Sequence[str], limit: int, after: str, open_: set[str]
) -> tuple[list[AlertView], int]:
    """Return some of the alerts that are over, or of all, and how many more there are."""
    if after and ((last := desk.store.view(after)) is None or not _is_in(last, state, words)):
        raise ProblemError(404, _NOT_LISTED)
    part = desk.listing.part(
        min(limit, MOST),
        after=after,
        without=open_ if state == "resolved" else (),
        fits=(lambda alert: _has(alert, words)) if words else None,
    )
    if part is None:
        raise ProblemError(404, _NOT_LISTED)
    return [view for view in part.views if _is_in(view, state, words)], part.more


def _is_in(view: AlertView, state: Listed, words: Sequence[str]) -> bool:
    """Say whether an alert belongs into the list of a state, and has all the words in its texts."""
    silenced = bool(view.life.silence)
    is_open = view.life.state != "resolved"
    mine = {"open": is_open, "all": True, "silenced": is_open and silenced, "resolved": not is_open}
    if not mine.get(state, view.life.state == state and not silenced):
        return False
    return _has(view.alert, words)


def _has(alert: Alert, words: Sequence[str]) -> bool:
    """Say whether an alert has all the words in its texts."""
    text = f"{alert.name}\n{alert.series}\n{alert.summary}".casefold()
    return all(word in text for word in words)


def related(desk: Desk, alert: Alert) -> list[Brief]:
    """Return the open alerts of the same group."""
    if not alert.group:
        return []
    views = desk.store.views(open=True)
    return [brief(view) for view in views if view.alert.group == alert.group and view.alert.id != alert.id]


def grouped(found: Full, who: str) -> list[tuple[str, list[Headline]]]:
    """Return the stories by publisher, the one with most first, each with its place and the last words on it."""
    groups: dict[str, list[Headline]] = {}
    for number, story in enumerate(found.alert.stories):
        words = [word for word in found.said if word.title == story.title]
        own: dict[str, Said] = {word.about: word for word in words if word.by == who}
        others = [word for word in words if word.by != who]
        groups.setdefault(story.publisher, []).append(Headline(number, story, own, others))
    return sorted(groups.items(), key=lambda group: -len(group[1]))


def full(desk: Desk, alert_id: str) -> Full | None:
    """Return an alert with everything, None when there is none (any more)."""
    view = desk.store.view(alert_id)
    if view is None:
        return None
    told, earlier = desk.outbox.history(alert_id)
    return Full(
        alert=view.alert,
        life=view.life,
        transitions=view.transitions,
        left_out=view.left_out,
        course=desk.now.course(alert_id),
        said=desk.feedback.of(alert_id),
        told=told[-_TOLD:],
        told_before=max(0, len(told) - _TOLD) + earlier,
    )


def chart(desk: Desk, series: str, name: str, bins: Sequence[Bin], alert: Alert | None = None) -> Chart:
    """Return the chart of a series with its price; of the bins those that show the alert, if one is given."""
    drawn = charts.choose(bins, alert) if alert else bins
    if len(drawn) < 2:
        return Chart(Markup(""), 0, False)
    ends = (drawn[0].start, drawn[-1].start + drawn[-1].span_min)
    begin, end = (datetime.fromtimestamp(minute * 60, UTC) for minute in ends)
    line = desk.prices.between(series, begin, end)
    return Chart(charts.course(name, drawn, alert, line), drawn[0].span_min, len(line) > 1)


def now(desk: Desk, of: Kind, words: str, state: str, order: Order, limit: int) -> NowTable:
    """Return the rows of a kind and state whose name has all the words, in the order asked for."""
    held = desk.tables.read()
    wanted = words.casefold().split()
    rows = [
        row
        for row in (held.table.rows if held else ())
        if (not of or row.kind == of)
        and (not state or row.state == state)
        and all(word in row.name.casefold() for word in wanted)
    ]
    if order == "share":
        rows.sort(key=lambda row: -(row.observed / max(1, row.observed + row.others)))
    elif order == "volume":
        rows.sort(key=lambda row: -row.items_min)
    elif order == "name":
        rows.sort(key=lambda row: row.name.casefold())
    return table_of(desk, held, rows, limit)


def table_of(desk: Desk, held: KeptTable | None, rows: Sequence[Row], limit: int = 1) -> NowTable:
    """Return what is shown of a table, with the first of some rows of it."""
    if held is None:
        return NowTable(
            minute=None, at=None, age_s=None, series=0, found=0, warming_up="", missing=0, rows=[]
        )  # fmt: skip
    table = held.table
    at = datetime.fromtimestamp((table.minute + 1) * 60, UTC)
    return NowTable(
        minute=table.minute,
        at=at,
        replay=desk.store.load_time() is not None,
        age_s=max(0.0, datetime.now(UTC).timestamp() - table.written_at),
        series=table.series,
        found=len(rows),
        warming_up=table.warming_up,
        missing=table.missing,
        rows=list(rows[:limit]),
    )
