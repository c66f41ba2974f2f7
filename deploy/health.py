"""`/metrics` and `/healthz` of a process, from a thread that a busy process cannot hold up."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from alerts.small_server import InTime, SmallServer
from deploy.metrics import ProcessMetrics

log = logging.getLogger(__name__)
Health = Callable[[], tuple[list[str], list[str]]]


class Starting:
    """Health of a process that is not ready yet, then of what has started."""

    def __init__(self, what: str) -> None:
        self._health: Health = lambda: ([], [f"starting: {what}"])

    def started(self, health: Health) -> None:
        """From now on `health` tells."""
        self._health = health

    def __call__(self) -> tuple[list[str], list[str]]:
        """Return why the process is not live and why it is not ready."""
        return self._health()


class _Server(SmallServer, WSGIServer):
    pass


class _Quiet(InTime, WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)


def serve(
    host: str, port: int, registry: CollectorRegistry, health: Health, notes: Callable[[], list[str]] = list
) -> _Server:
    """Serve until `shutdown()` is called; `port` 0 takes a free one (`server_port` tells which).

    Adds the metrics that every process has to `registry`.

    `/healthz` is 200 when the process is live and ready, else 503; `/healthz?live` looks at live alone, for a restart.
    It tells `notes`, too: what one should know though nothing is wrong.

    Raises:
        OSError: the port is taken.
    """
    ProcessMetrics(registry, health)
    metrics: Callable[..., Iterable[bytes]] = make_wsgi_app(registry)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "/")
        if path == "/metrics":
            return metrics(environ, start_response)
        if path != "/healthz":
            start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
            return [b"newsquake serves /metrics and /healthz here\n"]
        not_live, not_ready = health()
        failing = not_live if environ.get("QUERY_STRING") == "live" else not_live + not_ready
        body: dict[str, Any] = {
            "live": not not_live,
            "ready": not (not_live or not_ready),
            "reasons": not_live + not_ready,
        }
        if told := notes():
            body["notes"] = told
        start_response("503 Service Unavailable" if failing else "200 OK", [("Content-Type", "application/json")])
        return [json.dumps(body).encode() + b"\n"]

    server = make_server(host, port, app, server_class=_Server, handler_class=_Quiet)
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return server
