"""One series: how it stands, its course, its alerts so far and the silences that concern it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Annotated, NamedTuple

import msgspec
from fastapi import APIRouter, Query, Request, Response

from alerts.alert import Alert
from alerts.course import Bin
from alerts.desk import charts, views
from alerts.desk.api import answers, encoded
from alerts.desk.problems import ProblemError, documented
from alerts.desk.state import Desk
from alerts.desk.visitors import Visitor, desk_of
from alerts.evidence import against
from alerts.feedback import Said
from alerts.judgement import State
from alerts.matchers import Matcher, MatcherError
from alerts.now import NowError
from alerts.series import SeriesError, check, kind, label
from alerts.silences import Silence

router = APIRouter(prefix="/api/v1", responses=documented(400, 401, 403, 422, 429, 503))

Key = Annotated[
    str,
    Query(min_length=1, max_length=300, description="Name of a series: `market`, `topic=T`, `company=C`, and so on."),
]
_ALERTS = 50


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """One series. `now` has its row alone, or none: the table has the most unusual series, the market and all topics.

    `state` is the detector's, null where there is no row and no alert fires; `summary` says what is seen against what
    is expected. `course` is that of the alert `course_of` where one fires, else what the row holds. `alerts` are its
    last 50, those too that began on it and have moved to another `series`, with `more` before them, and `said` the
    verdicts on these; `silences` hold or are to come, over all of its alerts or, where they match other labels too,
    some.
    """

    series: str
    name: str
    kind: str
    state: State | None
    summary: str
    now: views.NowTable
    course: list[Bin]
    course_of: str
    alerts: list[views.Brief]
    more: int
    said: list[Said]
    silences: list[Silence]


class Look(NamedTuple):
    """A series, the alert that its course is of, and the state of things at which it was looked at.

    `problem` says why nothing is known of how it stands, if it should be.
    """

    found: Series
    alert: Alert | None
    state: Hashable
    problem: NowError | None


@router.get("/series", responses=answers(Series, 404), tags=["now"])
def series(request: Request, who: Visitor, key: Key) -> Response:
    """Return how one series stands, with its course, its alerts and its silences."""
    found, _, _, problem = look(request, key)
    if problem is not None:
        raise problem
    if not (found.now.rows or found.alerts):
        seen = "Now does not show that series" if found.now.minute is not None else "How series stand is not known"
        raise ProblemError(404, f"{seen}, and no alert of the last 90 days is about it.")
    return encoded(found)


def look(request: Request, key: str) -> Look:
    """Return how a series stands, read once for all who look: of one that nobody knows, that nothing is known.

    Raises:
        ProblemError: that names no series.
    """
    try:
        check(key)
    except SeriesError as exc:
        raise ProblemError(422, str(exc)) from exc
    desk = desk_of(request)
    standing = desk.standing()
    state = standing, desk.audit.mark()
    ids = desk.by_series.of(key, standing)
    looked: Look = request.app.state.shared.get(("series", key, state), lambda: _look(desk, key, ids, state))
    return looked


def _look(desk: Desk, key: str, ids: Sequence[str], state: Hashable) -> Look:
    held, problem = None, None
    try:
        held = desk.tables.read()
    except NowError as exc:  # its alerts and silences are there all the same
        problem = exc
    row = held.rows.get(key) if held else None
    on_series = [
        view
        for view in desk.store.find(ids[:_ALERTS]).values()
        if key in (view.alert.series, view.alert.began_on)  # it may have moved just now
    ]
    here = (view.alert for view in on_series if view.alert.series == key)
    firing = next((alert for alert in here if alert.status == "firing"), None)
    course = desk.now.course(firing.id) if firing else []
    drawn = firing if course else None  # its first minute is not written yet
    if not course and row and held:
        course = charts.bins_of(row, held.table.minute)
    said = [word for word in desk.feedback.of_all(ids[:_ALERTS]) if word.about == "alert"]
    now = desk.actions.now()
    found = Series(
        series=key,
        name=label(key),
        kind=kind(key),
        state=row.state if row else "firing" if firing else None,
        summary=against(label(key), row) if row else "",
        now=views.table_of(desk, held, [row] if row else []),
        course=course,
        course_of=drawn.id if drawn else "",
        alerts=[views.brief(view) for view in on_series],
        more=max(0, len(ids) - _ALERTS),
        said=said,
        silences=[each for each in desk.silences.all() if each.ends_at > now and each.concerns(key)],
    )
    return Look(found, drawn, state, problem)


def matcher(key: str) -> str:
    """Return the matcher of a series alone, empty where no matcher may name it."""
    try:
        return str(Matcher("series", "=", key))
    except MatcherError:
        return ""
