"""Silences in the JSON API, and the ends that forms and programs give them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Request, Response
from pydantic import AfterValidator, AwareDatetime, BaseModel, Discriminator, Field, Tag, model_validator

from alerts.desk.api import AlertId, Reason, answers, deeds_of, encoded
from alerts.desk.deeds import MAX_SILENCE, Laid, matchers_of
from alerts.desk.problems import ProblemError, documented
from alerts.desk.visitors import Analyst, Visitor, desk_of, whole
from alerts.ends import End, EndError, instant, length_of, time_of
from alerts.silences import Silence

router = APIRouter(prefix="/api/v1", responses=documented(400, 401, 403, 422, 429, 503), tags=["silences"])

SilenceId = Annotated[str, Path(pattern=r"^[0-9A-Za-z_-]{1,64}$", description="Id of a silence.")]
_MOST_MIN = MAX_SILENCE // timedelta(minutes=1)
_ENDS = ("minutes", "length", "until")


def _utc(at: datetime) -> datetime:
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise ValueError("beyond the years 1 to 9999 in UTC") from None


Moment = Annotated[AwareDatetime, AfterValidator(_utc)]


class SilenceList(msgspec.Struct, frozen=True, kw_only=True):
    """All silences of the last 90 days and those to come."""

    silences: list[Silence]


TYPES: tuple[Any, ...] = (Silence, SilenceList, Laid)


class WallTime(BaseModel, extra="forbid"):
    """A time as the clocks of a `zone` show it: 422 where they never do, or twice."""

    at: str = Field(max_length=60, description="As `2026-12-02T09:00` or `17:30` (today); an offset outdoes the zone.")
    zone: str = Field(max_length=60, description="A name in the IANA's database, as `Europe/London` or `UTC`.")


def _form_of(until: object) -> str:
    return "wall" if isinstance(until, dict | WallTime) else "instant"


_Length = Annotated[
    str, Field(max_length=60, description="Minutes, hours, days or weeks, as `90m`, `2h`, `3d` or `1d12h`.")
]
_Until = Annotated[
    Annotated[Moment, Tag("instant")] | Annotated[WallTime, Tag("wall")],
    Discriminator(_form_of),
    Field(description="With its offset, or by the clocks of a zone."),
]


def _exactly_one(schema: dict[str, Any]) -> None:
    schema["oneOf"] = [{"required": [name]} for name in _ENDS]
    for name in _ENDS:
        field = schema["properties"][name]
        del field["default"]
        (given, _null) = field.pop("anyOf")
        field |= given


class EndBody(BaseModel, extra="forbid", json_schema_extra=_exactly_one):
    """When a silence ends: exactly one of `minutes`, `length` and `until`."""

    minutes: Annotated[int, Field(ge=1, le=_MOST_MIN)] | None = None
    length: _Length | None = None
    until: _Until | None = None

    @model_validator(mode="after")
    def _is_one(self) -> EndBody:
        given = [name for name in _ENDS if name in self.model_fields_set]
        if len(given) != 1 or getattr(self, given[0]) is None:
            raise ValueError("exactly one of minutes, length and until is needed")
        return self

    def end(self, now: datetime) -> End:
        """Return the end that is asked for.

        Raises:
            ProblemError: it is no length or no time.
        """
        try:
            if self.length is not None:
                return length_of(self.length)
            if isinstance(self.until, WallTime):
                return instant(time_of(self.until.at), self.until.zone, now)
        except EndError as exc:
            raise ProblemError(422, str(exc)) from exc
        return self.until or timedelta(minutes=self.minutes or 0)


class SilenceAlertBody(EndBody):
    """For how long or until when, and why."""

    reason: Annotated[Reason, Field(min_length=1)]


class SilenceBody(SilenceAlertBody):
    """Matchers as Alertmanager writes them, such as `company=JPM, severity!=critical`."""

    matchers: str = Field(min_length=1, max_length=2_000)
    starts_at: Moment | None = None


def end_in(fields: Mapping[str, str], now: datetime) -> End:
    """Return the end that a page's form asks for.

    Raises:
        ProblemError: it is no length or no time.
    """
    try:
        match fields.get("minutes", ""):
            case "length":
                return length_of(fields.get("length", ""))
            case "until":
                return instant(time_of(fields.get("until", "")), fields.get("zone", ""), now)
    except EndError as exc:
        raise ProblemError(422, str(exc)) from exc
    return timedelta(minutes=minutes(fields))


def minutes(fields: Mapping[str, str]) -> int:
    """Return the minutes that a page's form asks for.

    Raises:
        ProblemError: it is no number of them, or too many.
    """
    return whole(fields.get("minutes", ""), 1, _MOST_MIN)


@router.post("/alerts/{alert_id}/silence", responses=answers(Laid, 404, 409))
def silence_alert(request: Request, who: Analyst, alert_id: AlertId, body: SilenceAlertBody) -> Response:
    """Lay a silence over the alert's series."""
    end = body.end(desk_of(request).actions.now())
    return encoded(deeds_of(request, who).silence_alert(alert_id, end, body.reason))


@router.get("/silences", responses=answers(SilenceList))
def silences(request: Request, who: Visitor) -> Response:
    """Return all silences, those that end last first."""
    return encoded(SilenceList(silences=desk_of(request).silences.all()))


@router.post("/silences", responses=answers(Laid, 409))
def silence(request: Request, who: Analyst, body: SilenceBody) -> Response:
    """Lay a silence over what all matchers match; a length counts from its beginning."""
    end = body.end(desk_of(request).actions.now())
    return encoded(deeds_of(request, who).silence(matchers_of(body.matchers), end, body.reason, body.starts_at))


@router.patch("/silences/{silence_id}", responses=answers(Silence, 404, 409))
def change(request: Request, who: Analyst, silence_id: SilenceId, body: EndBody) -> Response:
    """Give a silence another end; a length counts from now or, where that lies ahead, from its beginning.

    The same end again changes nothing, nor does the same length from the same person within two minutes (and a tenth of
    it). 409 when the silence has ended, and when the end is past or not after its beginning.
    """
    return encoded(deeds_of(request, who).change_silence(silence_id, body.end(desk_of(request).actions.now())))


@router.delete("/silences/{silence_id}", status_code=204, response_class=Response, responses=documented(404, 409))
def expire(request: Request, who: Analyst, silence_id: SilenceId) -> Response:
    """End a silence now."""
    deeds_of(request, who).expire(silence_id)
    return Response(status_code=204)
