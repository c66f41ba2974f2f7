"""The JSON API under `/api/v1`, which the pages use too; described at `/api/openapi.json`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field, StringConstraints
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from alerts.audit import CURSOR, Noted
from alerts.desk import views
from alerts.desk.auth import Identity
from alerts.desk.deeds import MAX_REASON, Deeds
from alerts.desk.live import FullError, Hub, Viewer
from alerts.desk.problems import ProblemError, documented
from alerts.desk.processes import Report
from alerts.desk.stream import Item
from alerts.desk.visitors import Analyst, Visitor, address_of, desk_of, still_there
from alerts.feedback import Said
from alerts.life import Transition
from alerts.notes import MAX_NOTE
from alerts.now import NowError

router = APIRouter(prefix="/api/v1", responses=documented(400, 401, 403, 422, 429, 503))

AlertId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="Id of an alert.")]
Words = Annotated[str, Query(max_length=200, description="Words that the name must have.")]
Reason = Annotated[str, StringConstraints(max_length=MAX_REASON, strip_whitespace=True)]


_encode = msgspec.json.Encoder().encode


MOST_ENTRIES = 10_000


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. Changes by a cookie's session need `csrf` in the header `X-CSRF-Token`."""

    name: str
    role: str
    csrf: str


class Items(msgspec.Struct, frozen=True, kw_only=True):
    """The newest scored items, the newest first; `problem` says why there may be none."""

    items: list[Item]
    problem: str


class AuditList(msgspec.Struct, frozen=True, kw_only=True):
    """Who did what, the newest first; `unreadable` more cannot be read.

    With `after` = `next` comes what is older; at the end of the log `next` is empty.
    """

    entries: list[Noted]
    unreadable: int
    next: str


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How newsquake is. `receivers` are those that get nothing now, and why."""

    report: Report
    receivers: dict[str, str]
    warming_up: str
    missing: int
    minute: int | None
    stream: str


class ChangeBody(BaseModel, extra="forbid"):
    """Why, in a few words."""

    reason: Reason = ""


class NoteBody(BaseModel, extra="forbid"):
    """What is to be known of the alert. Controls, direction marks and blank lines are left out."""

    text: str = Field(min_length=1, max_length=MAX_NOTE)


class VerdictBody(BaseModel, extra="forbid"):
    """What the alert was; null takes back what was said."""

    verdict: Literal["useful", "false_alarm"] | None


class CorrectionBody(BaseModel, extra="forbid"):
    """What is wrong with a headline. `label` is the right sentiment or topic, empty when that is not known."""

    story: int = Field(ge=0, le=100, description="Which of the alert's stories, from 0.")
    title: str = Field(
        default="",
        max_length=2_000,
        description="Its headline as it was shown: an alert's stories change as it grows. 409 when it has gone.",
    )
    about: Literal["sentiment", "topic"]
    label: str = Field(default="", max_length=128)
    taken_back: bool = False


TYPES: tuple[Any, ...] = (
    Me, views.NowTable, views.Alerts, views.Full, views.PrecisionTable, Transition, Said, Items, Standing, AuditList,
)  # fmt: skip


def answers(of: Any, *problems: int) -> dict[int | str, dict[str, Any]]:
    """Return how OpenAPI describes an answer of this type, and the problems that only this call has."""
    schema = {"$ref": f"#/components/schemas/{of.__name__}"}
    good: dict[int | str, dict[str, Any]] = {
        200: {"description": (of.__doc__ or "").strip(), "content": {"application/json": {"schema": schema}}}
    }
    return good | documented(*problems)


def encoded(value: Any) -> Response:
    """Return an answer in JSON."""
    return Response(_encode(value), media_type="application/json")


@router.get("/me", responses=answers(Me), tags=["session"])
def me(who: Visitor) -> Response:
    """Say who asks."""
    return encoded(Me(name=who.name, role=who.role, csrf=who.csrf))


@router.get("/now", responses=answers(views.NowTable), tags=["now"])
def now(
    request: Request,
    who: Visitor,
    kind: views.Kind = "",
    q: Words = "",
    state: views.StateOf = "",
    order: views.Order = "unusual",
    limit: Annotated[int, Query(ge=1, le=2_000)] = 100,
) -> Response:
    """Return how the series stand, the most unusual first."""
    return encoded(views.now(desk_of(request), kind, q, state, order, limit))


@router.get("/alerts", responses=answers(views.Alerts, 404), tags=["alerts"])
def alerts(
    request: Request,
    who: Visitor,
    state: views.Listed = "open",
    q: Words = "",
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    order: views.ListOrder = "newest",
    after: Annotated[str, Query(pattern=r"^([0-9a-f]{32})?$", description="Id of the last alert seen.")] = "",
) -> Response:
    """Return alerts, the newest first; or of the newest, critical ones first, what who asks is likely to want.

    With `after` the list begins behind that alert: 404 when it is not in the list, 422 with `order=mine`.
    """
    mine = who.name if order == "mine" else ""
    return encoded(views.alerts(desk_of(request), state, q, limit, who=mine, after=after))


@router.get("/alerts/{alert_id}", responses=answers(views.Full, 404), tags=["alerts"])
def alert(request: Request, who: Visitor, alert_id: AlertId) -> Response:
    """Return an alert with its life, its course and what was said of it."""
    found = views.full(desk_of(request), alert_id)
    if found is None:
        raise ProblemError(404, "there is no such alert (any more)")
    return encoded(found)


@router.post("/alerts/{alert_id}/acknowledge", responses=answers(Transition, 404, 409), tags=["alerts"])
def acknowledge(request: Request, who: Analyst, alert_id: AlertId, body: ChangeBody) -> Response:
    """Say that somebody is on it: nobody is told again unless it grows by a severity."""
    return _change(request, who, "acknowledge", alert_id, body)


@router.post("/alerts/{alert_id}/unacknowledge", responses=answers(Transition, 404, 409), tags=["alerts"])
def unacknowledge(request: Request, who: Analyst, alert_id: AlertId, body: ChangeBody) -> Response:
    """Take an acknowledgement back."""
    return _change(request, who, "unacknowledge", alert_id, body)


@router.post("/alerts/{alert_id}/resolve", responses=answers(Transition, 404, 409), tags=["alerts"])
def resolve(request: Request, who: Analyst, alert_id: AlertId, body: ChangeBody) -> Response:
    """Say that it is over: nobody is told of it again unless it grows by a severity or somebody reopens it."""
    return _change(request, who, "resolve", alert_id, body)


@router.post("/alerts/{alert_id}/reopen", responses=answers(Transition, 404, 409), tags=["alerts"])
def reopen(request: Request, who: Analyst, alert_id: AlertId, body: ChangeBody) -> Response:
    """Take back that somebody resolved it: it fires, and who was told that it is over is told so.

    409 when nobody resolved it by hand, when that is an hour ago and its surge is over, or nobody knows yet whether it
    goes on (it was put back from Kafka just now), and when another alert on its series is open, which `alert` of the
    answer names.
    """
    return _change(request, who, "reopen", alert_id, body)


@router.post("/alerts/{alert_id}/note", responses=answers(Transition, 404, 409), tags=["alerts"])
def note(request: Request, who: Analyst, alert_id: AlertId, body: NoteBody) -> Response:
    """Write a note on an alert, for all who look at it; it stands in its history as `noted`, and nobody is told.

    The same words from the same person within five minutes are one note, sent twice. 409 when the alert has as many
    notes as it may.
    """
    return encoded(deeds_of(request, who).note(alert_id, body.text))


def _change(request: Request, who: Any, verb: str, alert_id: str, body: ChangeBody) -> Response:
    return encoded(deeds_of(request, who).change(verb, alert_id, body.reason))


@router.post("/alerts/{alert_id}/verdict", responses=answers(Said, 404), tags=["feedback"])
def verdict(request: Request, who: Analyst, alert_id: AlertId, body: VerdictBody) -> Response:
    """Say that an alert was useful or a false alarm."""
    return encoded(deeds_of(request, who).judge(alert_id, body.verdict or ""))


@router.post("/alerts/{alert_id}/correction", responses=answers(Said, 404, 409), tags=["feedback"])
def correction(request: Request, who: Analyst, alert_id: AlertId, body: CorrectionBody) -> Response:
    """Say that the sentiment or topic of a headline is wrong."""
    deeds = deeds_of(request, who)
    return encoded(deeds.correct(alert_id, body.story, body.title, body.about, body.label, taken_back=body.taken_back))


@router.post(
    "/alerts/{alert_id}/dismiss",
    status_code=204,
    response_class=Response,
    responses=documented(404),
    tags=["alerts"],
)
def dismiss(request: Request, who: Analyst, alert_id: AlertId) -> Response:
    """Say that one does not want such alerts: they sink in one's own list, and nothing else changes."""
    deeds_of(request, who).dismiss(alert_id)
    return Response(status_code=204)


@router.get("/precision", responses=answers(views.PrecisionTable), tags=["feedback"])
def precision(request: Request, who: Visitor) -> Response:
    """Return how often alerts were useful, by rule and by topic."""
    return encoded(views.PrecisionTable(rows=desk_of(request).feedback.precision()))


@router.get("/stream", responses=answers(Items), tags=["stream"])
def stream(request: Request, who: Visitor, limit: Annotated[int, Query(ge=1, le=1_000)] = 100) -> Response:
    """Return the newest scored items."""
    stream = desk_of(request).stream
    return encoded(Items(items=stream.since(0, limit)[::-1], problem=stream.problem))


@router.get("/health", responses=answers(Standing), tags=["health"])
def health(request: Request, who: Visitor) -> Response:
    """Say how sources, workers, detectors and deliveries are."""
    return encoded(standing(request))


def standing(request: Request) -> Standing:
    """Return what the page Health shows."""
    desk = desk_of(request)
    table, why = None, "alerting has not judged a minute yet"
    try:
        table = desk.now.read()
    except NowError as exc:
        why = str(exc)
    return Standing(
        report=desk.processes.report(),
        receivers=desk.outbox.troubled(),
        warming_up=table.warming_up if table else why,
        missing=table.missing if table else 0,
        minute=table.minute if table else None,
        stream=desk.stream.problem,
    )


@router.get("/audit", responses=answers(AuditList), tags=["audit"])
def audit(
    request: Request,
    who: Analyst,
    limit: Annotated[int, Query(ge=1, le=MOST_ENTRIES)] = 100,
    after: Annotated[str, Query(pattern=f"^({CURSOR})?$", description="Id of the last entry seen.")] = "",
) -> Response:
    """Say who did what on the desk and by commands.

    With `after` the list begins behind that entry, which need not be kept any more; new entries do not move it.
    """
    return encoded(AuditList(**desk_of(request).audit.part(limit, after)._asdict()))


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events: transition, deed, now, items, reload, beat.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
    },
    tags=["live"],
)
async def events(request: Request, who: Visitor, items: bool = False) -> StreamingResponse:
    """Stream what is new: transitions as they are, the minute of a new table, with `items` what was scored.

    A `deed` tells of a silence or of what an analyst said; a `beat` comes every 5 seconds, with `since` when nothing
    can be read. The stream ends with the session or token.
    """
    hub = desk_of(request).hub
    try:
        return _Events(hub, hub.enter(who.name, items=items), lambda: still_there(request))
    except FullError as exc:
        raise ProblemError(429 if exc.own else 503, str(exc), {"retry-after": "60"}) from exc


class _Events(StreamingResponse):
    """The stream of one viewer, who leaves when it ends, however that is."""

    def __init__(self, hub: Hub, viewer: Viewer, may: Callable[[], bool]) -> None:
        headers = {"x-accel-buffering": "no"}
        super().__init__(hub.watch(viewer, may), media_type="text/event-stream", headers=headers)
        self._hub, self._viewer = hub, viewer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._hub.leave(self._viewer)


def deeds_of(request: Request, who: Identity) -> Deeds:
    """Return what who makes a request may do."""
    return Deeds(desk_of(request), who, address_of(request))
