"""Several alerts at once: each is a deed of its own, with its transition and its entry in the audit log."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, StringConstraints
from redis import RedisError

from alerts.desk.api import Reason, answers, encoded
from alerts.desk.deeds import MAX_SILENCE, Deeds
from alerts.desk.problems import ProblemError, documented
from alerts.desk.rendering import when
from alerts.desk.visitors import Analyst, address_of, desk_of
from alerts.store import AlertStore

router = APIRouter(prefix="/api/v1", responses=documented(400, 401, 403, 422, 429, 503))

MOST = 100
"""Alerts at once."""
What = Literal["acknowledge", "resolve", "silence"]
_FIELD = re.compile(r"alert-([0-9a-f]{32})")
_DONE = {"acknowledge": "acknowledged", "resolve": "resolved"}
_AWAY = "Redis cannot answer now; nothing is known to be done"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one alert, in words, and the `status` that it would have had alone: 200, 404, 409, 422 or 503."""

    alert: str
    name: str
    status: int
    detail: str


class Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    """What became of each, in the order asked for, and of how many it was `done`."""

    done: int
    outcomes: list[Outcome]


class TogetherBody(BaseModel, extra="forbid"):
    """What to do to which alerts. To silence their series it must be said for how long, and why."""

    what: What
    alerts: list[Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]] = Field(min_length=1, max_length=MOST)
    reason: Reason = ""
    minutes: int | None = Field(default=None, ge=1, le=MAX_SILENCE // timedelta(minutes=1))


@router.post("/deeds", responses=answers(Outcomes), tags=["alerts"])
def deeds(request: Request, who: Analyst, body: TogetherBody) -> Response:
    """Acknowledge, resolve or silence several alerts: what cannot be done to one keeps none of the others from it."""
    if body.what == "silence" and not (body.minutes and body.reason):
        raise ProblemError(422, "to silence alerts say for how many minutes, and why")
    of = Deeds(desk_of(request), who, address_of(request))
    return encoded(together(desk_of(request).store, of, body.what, body.alerts, body.reason, body.minutes or 0))


def together(store: AlertStore, of: Deeds, what: What, ids: Iterable[str], reason: str, minutes: int) -> Outcomes:
    """Do one thing to each of several alerts.

    Where Redis fails in the middle the rest is not tried; silences are laid all, or none.
    """
    wanted = list(dict.fromkeys(ids))
    names = store.names(wanted)
    if what == "silence":
        return _silenced(of, wanted, names, reason, minutes)
    away, found = False, []
    for each in wanted:
        status, detail = 503, "not tried: Redis cannot answer now"
        if not away:
            try:
                of.change(what, each, reason)
                status, detail = 200, _DONE[what]
            except ProblemError as exc:
                status, detail = exc.status, exc.detail.removeprefix(f"{names.get(each)}: ")
            except RedisError:
                away, detail = True, _AWAY
        found.append(Outcome(alert=each, name=names.get(each, each), status=status, detail=detail))
    return _all(found)


def _silenced(of: Deeds, wanted: list[str], names: Mapping[str, str], reason: str, minutes: int) -> Outcomes:
    """Silence the series of all these alerts in one go: Redis has all of their silences, or none."""
    found = []
    try:
        done = of.silence_alerts(wanted, timedelta(minutes=minutes), reason)
    except ProblemError as exc:
        done = dict.fromkeys(wanted, exc)
    except RedisError:
        done = dict.fromkeys(wanted, ProblemError(503, _AWAY))
    for each in wanted:
        laid = done[each]
        status, detail = (
            (laid.status, laid.detail)
            if isinstance(laid, ProblemError)
            else (200, f"silenced until {when(laid.ends_at)}")
        )
        found.append(Outcome(alert=each, name=names.get(each, each), status=status, detail=detail))
    return _all(found)


def _all(found: list[Outcome]) -> Outcomes:
    return Outcomes(done=sum(each.status == 200 for each in found), outcomes=found)


def chosen(fields: Mapping[str, str]) -> list[str]:
    """Return the alerts whose boxes are ticked in a form.

    Raises:
        ProblemError: there are none, or too many.
    """
    ids = [found[1] for name in fields if (found := _FIELD.fullmatch(name))]
    if not 0 < len(ids) <= MOST:
        raise ProblemError(422, f"Choose alerts, {MOST} at most.")
    return ids
