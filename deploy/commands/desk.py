"""`newsquake desk`: the analysts' page, and the tokens to sign in with."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
import uvicorn
from prometheus_client import CollectorRegistry

from deploy import log, settings
from deploy.commands._alerts import note_of
from deploy.commands._first_token import first_token
from deploy.commands._options import fail
from deploy.commands._outbox import redis_of
from deploy.local.plan import loopback_of

if TYPE_CHECKING:
    from alerts.desk.auth import Tokens

logger = logging.getLogger(__name__)


@click.group(invoke_without_command=True)
@click.option("--host", help="Address of the page, for desk.host.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the page, for desk.port.")
@click.pass_context
def desk(context: click.Context, host: str | None, port: int | None) -> None:
    """Serve the analysts' page and its JSON API.

    At the first start a token to sign in with is shown, once, where that is a terminal; more are made by
    `newsquake desk token add`.
    """
    if context.invoked_subcommand is None:
        config = settings.load()
        _, redis_url = settings.require(config)
        log.setup(config.log.level)
        asyncio.run(_serve(config, redis_url, host or config.desk.host, config.desk.port if port is None else port))


@contextmanager
def _taking(what: str, host: str, port: int) -> Iterator[None]:
    """Say which address it was, and by which setting, when it cannot be listened at."""
    try:
        yield
    except OSError as exc:
        raise click.ClickException(f"cannot listen on {host}:{port}, {what}: {exc.strerror or exc}") from exc


class _Server(uvicorn.Server):
    """Leaves signals to us: open streams must end first."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


async def _serve(config: settings.Settings, redis_url: str, host: str, port: int) -> None:
    from redis import Redis

    from alerts.desk.app import create_app
    from alerts.desk.feedback_topic import Kafka
    from alerts.desk.punctual import Punctual
    from alerts.desk.state import Desk
    from alerts.desk.stream import Stream
    from deploy import health
    from deploy.kafka_client import client_options

    registry = CollectorRegistry()
    redis = Redis.from_url(redis_url, socket_timeout=5, socket_connect_timeout=5)
    sentiments, topics = _labels(config)
    kafka = config.kafka
    served = Desk(
        config.desk,
        redis,
        registry,
        stream=Stream(kafka.bootstrap_servers, kafka.scored_topic, client_options(kafka)),
        kafka=Kafka(kafka.bootstrap_servers, kafka.feedback_topic, client_options(kafka)),
        processes=_processes(config),
        sentiments=sentiments,
        topics=topics,
    )
    with _taking("the page (--port or desk.port)", host, port):
        sock = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    with _taking("the metrics (http.desk_port)", config.http.host, config.http.desk_port):
        metrics = health.serve(config.http.host, config.http.desk_port, registry, served.hub.health)
    server = _Server(
        uvicorn.Config(
            create_app(served),
            http=Punctual,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
    )
    page = config.desk.url or f"http://{host}:{sock.getsockname()[1]}"
    _greet(served.tokens, page)
    logger.info("the desk is at %s", page)

    async def stop_hub() -> None:  # open streams would hold up the end
        await served.hub.stop()
        server.should_exit = True

    loop, tasks = asyncio.get_running_loop(), set[asyncio.Task[None]]()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, lambda: tasks.add(asyncio.create_task(stop_hub())))
    try:
        await server.serve([sock])
    finally:
        metrics.shutdown()
        redis.close()


def _greet(tokens: Tokens, page: str) -> None:
    def show(token: str) -> None:
        click.echo(f"\nSign in at {page} with this token, which is shown only now:\n\n    {token}\n")

    if not first_token(tokens, show) and not tokens.list():
        logger.warning("nobody can sign in yet: `newsquake desk token add NAME --role analyst` makes a token")


def _processes(config: settings.Settings) -> dict[str, str]:
    if config.desk.processes:
        return {process.name or process.url: process.url for process in config.desk.processes}
    http, host = config.http, loopback_of(config.http.host)
    ports = {"ingest": http.ingest_port, "stream": http.stream_port, "alerts": http.alerts_port}
    found = {name: f"http://{host}:{port}" for name, port in ports.items() if port}
    for worker in range(1, config.local.stream_workers):
        found[f"stream-{worker + 1}"] = f"http://{host}:{http.stream_port + worker}"
    return found


def _labels(config: settings.Settings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the labels of the model that scores, read without loading it; without its weights there are none."""
    from model.corrections import known_labels
    from model.errors import ModelError
    from model.settings import SHIPPED_WEIGHTS

    size = "base" if config.model.size == "base" else "small"
    try:
        known = known_labels(config.model.weights or SHIPPED_WEIGHTS / size)
    except (ModelError, OSError) as exc:
        logger.warning("the model's labels are not known here (%s): corrections name none", exc)
        return (), ()
    return tuple(known.sentiment), tuple(known.topic)


@desk.group()
def token() -> None:
    """Make, list and revoke tokens."""


@token.command("add")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(["reader", "analyst"]),
    default="reader",
    show_default=True,
    help="May read, or also act.",
)
def add(name: str, role: str) -> None:
    """Make a token for NAME and print it: it is shown only now."""
    from alerts.audit import Audit
    from alerts.desk.auth import AuthError, Tokens

    with redis_of(settings.load()) as redis:
        try:
            made = Tokens(redis).add(name, "analyst" if role == "analyst" else "reader")
        except AuthError as exc:
            fail(exc)
        Audit(redis).write(note_of("make token", target=name, detail=role))
    click.echo(made)


@token.command("list")
def list_() -> None:
    """List who has a token."""
    from alerts.desk.auth import Tokens

    with redis_of(settings.load()) as redis:
        for each in Tokens(redis).list():
            click.echo(f"{each.name}\t{each.role}\t{datetime.fromtimestamp(each.created_at, UTC):%Y-%m-%d %H:%M} UTC")


@token.command("revoke")
@click.argument("name")
def revoke(name: str) -> None:
    """Revoke the token of NAME, and end all its sessions."""
    from alerts.audit import Audit
    from alerts.desk.auth import Tokens

    with redis_of(settings.load()) as redis:
        if not Tokens(redis).revoke(name):
            fail(f"{name} has no token")
        Audit(redis).write(note_of("revoke token", target=name))
    click.echo(f"revoked the token of {name}")
