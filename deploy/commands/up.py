"""`newsquake up`: everything on this machine, in one terminal."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import click
from rich.table import Table

from deploy import settings as settings_module
from deploy.commands._first_token import first_token
from deploy.kafka_client import client_options
from deploy.local import health
from deploy.local.errors import LocalError
from deploy.local.feeds import any_feed_reached
from deploy.local.jars import default_cache_dir, ensure_jars
from deploy.local.kafka import kafka_program
from deploy.local.output import Stream
from deploy.local.plan import Plan, kafka_child, make_plan, valkey_child, wanted_ports
from deploy.local.ports import require_free
from deploy.local.probe import kafka_problem, redis_problem
from deploy.local.state import StateLock, private_dir, webhook_secret
from deploy.local.supervisor import Supervisor
from deploy.local.valkey import valkey_program
from deploy.settings import Settings
from deploy.topics import TopicsError, ensure_topics

_FEEDS_TIMEOUT_S = 10.0
_SERVER_TIMEOUT_S = 120.0
_READY_TIMEOUT_S = 60.0
_ASK_EVERY_S = 1.0


@click.command()
@click.option(
    "--demo", is_flag=True, help="Replay the bank run of March 2023, retold, on servers and state of its own."
)
@click.option("--or-demo", is_flag=True, help="Run the demo when none of the feeds can be reached within 10 s.")
def up(demo: bool, or_demo: bool) -> None:
    """Run everything on this machine, in this terminal.

    Starts Kafka and Valkey (or uses those that the settings name), then ingest, stream and alerts, and prints what
    they say. Ctrl-C ends all. State is kept in local.state_dir.
    """
    try:
        if or_demo and not demo and not _a_feed_answers(settings_module.load()):
            click.echo(
                "newsquake: none of the feeds can be reached from here within 10 s, so this is the demo: "
                "the bank run of March 2023, retold and replayed."
            )
            demo = True
        if demo:
            from deploy.demo import demo_overrides

            os.environ.update(demo_overrides())
        settings = settings_module.load()
        state_dir = (settings.local.state_dir / "demo" if demo else settings.local.state_dir).absolute()
        with StateLock(state_dir):
            if demo:
                _wipe(state_dir)
            _run(settings, state_dir, demo)
    except (LocalError, TopicsError) as exc:
        raise click.ClickException(str(exc)) from exc


def _a_feed_answers(settings: Settings) -> bool:
    feeds = configured_feeds(settings)
    if not feeds:  # these settings read something else, which the demo must not take the place of
        return True
    user_agent = settings.ingest.user_agent
    return asyncio.run(any_feed_reached(feeds, user_agent=user_agent, timeout_s=_FEEDS_TIMEOUT_S))


def configured_feeds(settings: Settings) -> list[tuple[str, str]]:
    """Name and address of each feed that `newsquake ingest` polls with these settings.

    Raises:
        LocalError: the list of feeds cannot be used.
    """
    from ingest.sources.rss import DEFAULT_FEEDS, load_feeds

    rss = settings.ingest.rss
    if not rss.enabled:
        return []
    try:
        return [(feed.name, feed.url) for feed in rss.feeds or load_feeds(rss.feeds_file or DEFAULT_FEEDS)]
    except ValueError as exc:
        raise LocalError(f"Settings ingest.rss: {exc}") from exc


def _wipe(state_dir: Path) -> None:
    """Empties the demo's directory, the lock that this process holds aside."""
    try:
        for path in state_dir.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != "up.lock":
                path.unlink()
    except OSError as exc:
        raise LocalError(f"Cannot empty the demo's directory {state_dir}: {exc}.") from exc


def _run(settings: Settings, state_dir: Path, demo: bool) -> None:
    started_at = time.monotonic()
    secret = None if not demo and settings.alerts.receivers else webhook_secret(state_dir)
    plan = make_plan(settings, webhook_secret=secret, demo=demo)
    require_free(wanted_ports(settings, plan))
    log_dir = state_dir / "log"
    private_dir(log_dir)
    stream = Stream(plan.names)
    servers = []
    if plan.local_valkey:
        program = valkey_program(
            state_dir / "valkey",
            port=settings.local.redis_port,
            appendfsync="always" if settings.local.redis_fsync == "always" else "everysec",
        )
        servers.append(valkey_child(program))
    if plan.local_kafka:
        jars = ensure_jars(
            settings.local.jar_cache or default_cache_dir(),
            repository=settings.local.jar_repository,
            progress=lambda text: stream.line("up", text),
        )
        program = kafka_program(
            state_dir / "kafka",
            jars,
            port=settings.local.kafka_port,
            controller_port=settings.local.kafka_controller_port,
        )
        servers.append(kafka_child(program))

    kafka = settings.kafka.model_copy(update={"security_protocol": "PLAINTEXT"}) if plan.local_kafka else settings.kafka
    supervisor = Supervisor(stream, log_dir=log_dir, stop_order=plan.stop_order)
    with supervisor:
        for child in servers:
            supervisor.start(child)
        if not supervisor.wait_until(
            lambda: redis_problem(plan.redis_url),
            what="valkey" if plan.local_valkey else "Redis",
            timeout_s=_SERVER_TIMEOUT_S,
        ):
            return
        if not supervisor.wait_until(
            lambda: kafka_problem(plan.bootstrap, client_options(kafka)),
            what="kafka" if plan.local_kafka else "Kafka",
            timeout_s=_SERVER_TIMEOUT_S,
        ):
            return
        ensure_topics(plan.bootstrap, kafka)
        _first_token(
            plan.redis_url,
            lambda token: stream.line(
                "up", f"sign in at {plan.desk_url} with this token, which is shown only now: {token}"
            ),
        )
        for service in plan.services:
            supervisor.start(service.child)
        stream.show(_table(plan, supervisor))
        listens = any(service.name == "listen" for service in plan.services)
        stream.line("up", f"alerts are {'printed here by listen' if listens else 'sent to the receivers configured'}")
        stream.line("up", f"the desk, where analysts work, is at {plan.desk_url}")
        stream.line("up", f"state is kept in {state_dir}, each process's whole output in {log_dir}")
        stream.line("up", "Ctrl-C ends all")
        _say_when_ready(supervisor, stream, plan, started_at)
        supervisor.run()
    stream.line("up", "all has ended; `newsquake up` goes on where it stopped" if not demo else "the demo has ended")


def _first_token(redis_url: str, show: Callable[[str], None]) -> bool:
    """Show the desk's first token here, or not at all: the desk's own output is no terminal but its log."""
    from redis import Redis

    from alerts.desk.auth import Tokens

    with Redis.from_url(redis_url, socket_timeout=10, socket_connect_timeout=5) as redis:
        return first_token(Tokens(redis), show)


def _table(plan: Plan, supervisor: Supervisor) -> Table:
    table = Table("process", "pid", title="newsquake", title_justify="left")
    table.add_column("what it does", overflow="fold")
    table.add_column("where", overflow="fold")
    kafka_pid, valkey_pid = (str(supervisor.pid(name) or "not ours") for name in ("kafka", "valkey"))
    table.add_row("kafka", kafka_pid, "keeps documents and scores", plan.bootstrap)
    name = "valkey" if plan.local_valkey else "redis"
    table.add_row(name, valkey_pid, "keeps windows and alerts", _without_secret(plan.redis_url))
    for service in plan.services:
        url = service.url(plan.host)
        where = f"{url}/metrics\n{url}/healthz" if service.has_health else url
        table.add_row(service.name, str(supervisor.pid(service.name) or "-"), service.what, where)
    return table


def _without_secret(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _say_when_ready(supervisor: Supervisor, stream: Stream, plan: Plan, started_at: float) -> None:
    """Waits until each process says that it is ready; after a minute, says which is not and why, and goes on."""
    waiting = {service.name: service.url(plan.host) for service in plan.services if service.has_health}
    reasons: dict[str, str] = {}
    give_up_at = time.monotonic() + _READY_TIMEOUT_S
    ask_at = 0.0

    def problem() -> str | None:
        nonlocal ask_at
        now = time.monotonic()
        if now >= ask_at:
            ask_at = now + _ASK_EVERY_S
            for name, url in list(waiting.items()):
                answer = health.ask(url)
                reasons[name] = "; ".join(answer.reasons)
                if not answer.reasons:
                    del waiting[name]
        return "some are not ready" if waiting and now < give_up_at else None

    if not supervisor.wait_until(problem, what="newsquake", timeout_s=_READY_TIMEOUT_S * 2):
        return
    seconds = time.monotonic() - started_at
    if not waiting:
        stream.line("up", f"all is up, {seconds:.0f} s after the start")
    for name in waiting:
        stream.line("up", f"WARNING {name} is not ready after {seconds:.0f} s: {reasons[name]}")
