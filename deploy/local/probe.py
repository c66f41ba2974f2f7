"""Whether a Kafka broker or a Redis-compatible server answers, and waiting until it does."""

import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

import redis
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from deploy.local.errors import LocalError

_POLL_S = 0.1
_REQUEST_TIMEOUT_MS = 2_000


def kafka_problem(bootstrap: str, options: Mapping[str, Any] | None = None) -> str | None:
    """None when a broker at `bootstrap` answers and takes part in its cluster; otherwise what is wrong."""
    try:
        # A refused connection costs nothing here, while kafka-python would retry it and leave a socket open each time.
        _connect_to_any(bootstrap)
        admin = KafkaAdminClient(
            bootstrap_servers=bootstrap,
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
            bootstrap_timeout_ms=_REQUEST_TIMEOUT_MS,
            **(options or {}),
        )
        try:
            # A broker that is still fenced answers, but topics could not be made yet.
            brokers = admin.describe_cluster()["brokers"]
            taking_part = any(not broker.get("is_fenced") for broker in brokers)
            return None if taking_part else "no broker takes part in its cluster yet"
        finally:
            admin.close()
    except (KafkaError, OSError, ValueError) as exc:
        return f"{type(exc).__name__}: {exc}"


def _connect_to_any(bootstrap: str) -> None:
    refused: OSError | None = None
    for server in bootstrap.split(","):
        host, _, port = server.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_REQUEST_TIMEOUT_MS / 1000).close()
            return
        except OSError as exc:
            refused = exc
    raise refused or ValueError(f"no server in {bootstrap!r}")


def redis_problem(url: str) -> str | None:
    """None when the server at `url` answers; otherwise what is wrong, without the url: it may hold a password."""
    try:
        client = redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)
        try:
            client.ping()
            return None
        finally:
            client.close()
    except redis.RedisError as exc:
        return f"{type(exc).__name__}: {exc}"


def wait_until(problem: Callable[[], str | None], timeout_s: float, ended: Callable[[], int | None]) -> None:
    """Waits until `problem()` is None.

    Args:
        problem: what is wrong now, or None.
        timeout_s: how long to wait.
        ended: the exit status of the server's process once it ended.

    Raises:
        LocalError: the process ended, or time is up; says what was wrong last.
    """
    deadline = time.monotonic() + timeout_s
    while (reason := problem()) is not None:
        if (status := ended()) is not None:
            raise LocalError(f"It ended with status {status}.")
        if time.monotonic() > deadline:
            raise LocalError(f"No answer within {timeout_s:.0f} s: {reason}")
        time.sleep(_POLL_S)
