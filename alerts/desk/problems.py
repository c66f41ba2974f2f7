"""What goes wrong, as `application/problem+json` (RFC 9457) for programs and as a page for people."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["title", "status", "detail"],
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "alert": {"type": "string", "description": "Id of an alert to look at instead."},
    },
}


class ProblemError(Exception):
    """A request cannot be answered as asked; `detail` says why, in plain words. `alert` is one to look at instead."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None, *, alert: str = "") -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers, self.alert = status, detail, headers or {}, alert


def title_of(status: int) -> str:
    """Return the standard's words for a status."""
    return HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Error"


def problem(status: int, detail: str, headers: dict[str, str] | None = None, alert: str = "") -> Response:
    """Return the answer."""
    body = {"title": title_of(status), "status": status, "detail": detail} | ({"alert": alert} if alert else {})
    return Response(json.dumps(body), status, headers, media_type=MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return how OpenAPI describes these problems."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": title_of(status), "content": {MEDIA_TYPE: {"schema": schema}}} for status in statuses
    }
