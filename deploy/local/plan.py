"""What runs on this machine: which programs, with which settings, on which ports, in which order they end."""

import json
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.errors import LocalError
from deploy.local.output import show_kafka_warnings, show_valkey_warnings
from deploy.local.ports import free_ports
from deploy.local.process import Program
from deploy.local.supervisor import Child
from deploy.settings import Settings


@dataclass(frozen=True)
class Service:
    """One of newsquake's own processes: how to run it, and where it answers."""

    child: Child
    port: int
    what: str

    @property
    def name(self) -> str:
        """Its name in the log stream."""
        return self.child.program.name

    @property
    def has_health(self) -> bool:
        """Whether it serves `/metrics` and `/healthz`; the receiver of alerts does not."""
        return self.name != "listen"

    def url(self, host: str) -> str:
        """Where it serves."""
        return f"http://{host}:{self.port}"


@dataclass(frozen=True)
class Plan:
    """Everything `newsquake up` runs, beside the servers."""

    services: tuple[Service, ...]
    bootstrap: str
    redis_url: str = field(repr=False)
    local_kafka: bool
    local_valkey: bool
    host: str
    """Where to open the services' pages from this machine."""
    desk_url: str
    """Where analysts open the desk."""

    @property
    def names(self) -> list[str]:
        """All names of the log stream."""
        return [*self.server_names, *(service.name for service in self.services)]

    @property
    def server_names(self) -> list[str]:
        """The servers that are started here."""
        return ["kafka"] * self.local_kafka + ["valkey"] * self.local_valkey

    @property
    def stop_order(self) -> list[str]:
        """Sources first, so that what they published is still counted; the servers last."""
        return [*(service.name for service in self.services), "valkey", "kafka"]


def newsquake_command(*arguments: str) -> list[str]:
    """The command line of another newsquake process with this one's Python and installation.

    Raises:
        LocalError: the command is not installed beside this Python.
    """
    script = Path(sysconfig.get_path("scripts")) / "newsquake"
    if not script.is_file():
        raise LocalError(f"{script} is missing: install newsquake with pip, and run it from there.")
    return [sys.executable, str(script), *arguments]


def make_plan(settings: Settings, *, webhook_secret: str | None, demo: bool) -> Plan:
    """What to run for `settings`.

    Args:
        settings: as loaded; servers that they name are used, others are started here. The demo starts its own.
        webhook_secret: run `newsquake listen` with this secret and send it the alerts; None: alerts go where the
            settings say.
        demo: never touch servers that settings name.
    """
    local, http = settings.local, settings.http
    local_kafka = demo or settings.kafka.bootstrap_servers is None
    local_valkey = demo or settings.redis.url is None
    bootstrap = f"127.0.0.1:{local.kafka_port}"
    redis_url = f"redis://127.0.0.1:{local.redis_port}/0"
    if not local_kafka and settings.kafka.bootstrap_servers is not None:
        bootstrap = settings.kafka.bootstrap_servers
    if not local_valkey and settings.redis.url is not None:
        redis_url = settings.redis.url.get_secret_value()
    env = {
        "NEWSQUAKE_KAFKA__BOOTSTRAP_SERVERS": bootstrap,
        "NEWSQUAKE_REDIS__URL": redis_url,
        "PYTHONUNBUFFERED": "1",
    }
    if local_kafka:  # loopback, whatever the settings say of other brokers
        env["NEWSQUAKE_KAFKA__SECURITY_PROTOCOL"] = "PLAINTEXT"
    listen_port = http.listen_port or free_ports(1)[0]
    host = loopback_of(http.host)
    webhook_env: dict[str, str] = {}
    if webhook_secret is not None:
        webhook_env = _local_webhook(f"http://{host}:{listen_port}/", webhook_secret)

    def service(kind: str, port: int, what: str, *, stop_s: float, number: int | None = None) -> Service:
        # A port 0 means any: it is chosen here, so that the table can name it.
        port = port or free_ports(1)[0]
        program = Program(
            kind if number is None else f"{kind}-{number}",
            newsquake_command(kind),
            {**env, f"NEWSQUAKE_HTTP__{kind.upper()}_PORT": str(port)}
            | (webhook_env if kind in ("alerts", "listen") else {})
            | (desk_env if kind == "desk" else {})
            | ({"NEWSQUAKE_DESK__URL": desk_url} if kind == "alerts" else {}),
        )
        return Service(Child(program, stop_s=stop_s), port, what)

    desk_port = settings.desk.port or free_ports(1)[0]
    desk_url = settings.desk.url or f"http://{loopback_of(settings.desk.host)}:{desk_port}"
    desk_env: dict[str, str] = {}
    services = [service("ingest", http.ingest_port, "reads the sources", stop_s=15.0)]
    for worker in range(local.stream_workers):
        port = http.stream_port + worker if http.stream_port else 0
        number = worker + 1 if local.stream_workers > 1 else None
        # A batch that is being scored is finished first.
        services.append(service("stream", port, "scores", stop_s=30.0, number=number))
    services.append(service("alerts", http.alerts_port, "raises and delivers alerts", stop_s=20.0))
    asked = settings.desk.processes or [{"name": each.name, "url": each.url(host)} for each in services]
    desk_env |= {
        "NEWSQUAKE_DESK__PORT": str(desk_port),
        "NEWSQUAKE_DESK__PROCESSES": json.dumps([dict(process) for process in asked]),
    }
    services.append(service("desk", http.desk_port, "shows all of it to analysts", stop_s=10.0))
    if webhook_secret is not None:
        services.append(service("listen", listen_port, "prints alerts here", stop_s=5.0))
    return Plan(tuple(services), bootstrap, redis_url, local_kafka, local_valkey, host, desk_url)


def _local_webhook(url: str, secret: str) -> dict[str, str]:
    """The environment that makes `newsquake alerts` send to `newsquake listen` here, and lets that one verify it."""
    receiver = {
        "type": "webhook",
        "name": "listen",
        "url": url,
        "secrets": [secret],
        "allow_networks": ["0.0.0.0/0", "::/0"],  # the address is this machine's, by whatever name http.host gives it
    }
    return {"NEWSQUAKE_ALERTS__RECEIVERS": json.dumps([receiver]), "NEWSQUAKE_LISTEN_SECRET": secret}


def loopback_of(host: str) -> str:
    """Where this machine reaches what listens on `host`: loopback, when that means all addresses."""
    return "127.0.0.1" if host in ("0.0.0.0", "::", "") else host  # noqa: S104


def wanted_ports(settings: Settings, plan: Plan) -> dict[str, int]:
    """Setting → port, for all ports that must be free on this machine."""
    local = settings.local
    ports: dict[str, int] = {}
    if plan.local_kafka:
        ports |= {"local.kafka_port": local.kafka_port, "local.kafka_controller_port": local.kafka_controller_port}
    if plan.local_valkey:
        ports["local.redis_port"] = local.redis_port
    if settings.desk.port:
        ports["desk.port"] = settings.desk.port
    for service in plan.services:
        kind, _, number = service.name.partition("-")
        ports[f"http.{kind}_port" + (f" (worker {number})" if number else "")] = service.port
    return ports


def kafka_child(program: Program) -> Child:
    """The broker under the supervisor: warnings in the stream, all in its log file."""
    return Child(program, stop_s=20.0, show=show_kafka_warnings)


def valkey_child(program: Program) -> Child:
    """The windows' server under the supervisor: warnings in the stream, all in its log file."""
    return Child(program, stop_s=20.0, show=show_valkey_warnings)
