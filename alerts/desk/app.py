"""The desk as an ASGI application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from redis import RedisError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from alerts.desk import api, pages, series, silencing, together
from alerts.desk.guard import Guard
from alerts.desk.problems import SCHEMA, ProblemError, problem
from alerts.desk.rendering import environment
from alerts.desk.shared import Shared
from alerts.desk.state import Desk
from alerts.now import NowError

log = logging.getLogger(__name__)


def create_app(desk: Desk) -> FastAPI:
    """Return the application that serves this desk."""

    @asynccontextmanager
    async def living(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(desk.ranking.load)
        desk.stream.start()
        desk.feedback_topic.start()
        desk.hub.start()
        yield
        await desk.hub.stop()
        desk.stream.stop()
        desk.feedback_topic.stop()

    app = FastAPI(
        title="newsquake desk",
        version="1",
        summary="Alerts, how series stand, and what people do about them.",
        openapi_url="/api/openapi.json",
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        lifespan=living,
    )
    app.state.desk, app.state.templates, app.state.shared = desk, environment(), Shared()
    app.include_router(api.router)
    app.include_router(silencing.router)
    app.include_router(together.router)
    app.include_router(series.router)
    app.include_router(pages.router)
    app.mount("/static", _Static(directory=str(files("alerts.desk").joinpath("static"))), name="static")
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(RedisError, _on_redis)
    app.add_exception_handler(NowError, _on_now)

    app.add_middleware(Guard, seconds=desk.metrics.page_seconds.observe)
    _describe(app)
    return app


class _Static(StaticFiles):
    """Files whose addresses change with what is in them."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """Return a file that the browser may keep."""
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "public, max-age=31536000, immutable"
        return response


def _describe(app: FastAPI) -> None:
    """Add to OpenAPI what FastAPI does not know: the types that msgspec encodes, and how to sign in."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = plain()
            _, schemas = msgspec.json.schema_components(
                (*api.TYPES, *silencing.TYPES, together.Outcomes, series.Series),
                ref_template="#/components/schemas/{name}",
            )
            components = found.setdefault("components", {})
            components.setdefault("schemas", {}).update(schemas | {"Problem": SCHEMA})
            components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            found["security"] = [{"token": []}]
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the way FastAPI documents


async def _answer(
    request: Request, status: int, detail: str, headers: dict[str, str] | None = None, alert: str = ""
) -> Response:
    if request.url.path.startswith("/api/"):
        return problem(status, detail, headers, alert)
    return await asyncio.to_thread(pages.error_page, request, status, detail, alert)


async def _on_problem(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, ProblemError)  # noqa: S101 - Starlette's types know no narrower handler
    return await _answer(request, exc.status, exc.detail, exc.headers, exc.alert)


async def _on_http(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)  # noqa: S101
    return await _answer(request, exc.status_code, str(exc.detail), dict(exc.headers or {}))


async def _on_validation(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)  # noqa: S101
    said = [f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in exc.errors()[:10]]
    text = "; ".join(said).encode("utf-8", "replace").decode()
    return await _answer(request, 422, text[:1_000])


async def _on_redis(request: Request, exc: Exception) -> Response:
    log.warning("%s %s: Redis failed: %s", request.method, request.url.path, exc)
    detail = "Redis cannot answer now; try again"
    if request.method not in ("GET", "HEAD"):  # the answer may be what was lost
        detail = "Redis cannot answer now, and what was asked may be done or not: look, then try again"
    return await _answer(request, 503, detail, {"retry-after": "5"})


async def _on_now(request: Request, exc: Exception) -> Response:
    log.error("%s %s: %s", request.method, request.url.path, exc)
    detail = "how series stand cannot be read; alerting writes it anew each minute, so try again"
    return await _answer(request, 503, detail, {"retry-after": "60"})
