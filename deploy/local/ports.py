"""Ports of this machine: is one free, and if not, who holds it."""

import contextlib
import socket
from collections.abc import Mapping

from deploy.local.errors import LocalError

LOOPBACK = "127.0.0.1"


def is_free(port: int) -> bool:
    """True when a server can listen on 127.0.0.1:`port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do; TIME_WAIT is no obstacle
        with contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            probe.listen(1)
            return True
    return False


def free_ports(count: int) -> list[int]:
    """`count` different ports that are free now."""
    with contextlib.ExitStack() as held:
        ports = []
        for _ in range(count):
            probe = held.enter_context(socket.socket())
            probe.bind((LOOPBACK, 0))
            ports.append(int(probe.getsockname()[1]))
        return ports


def holder(port: int) -> str:
    """Who listens on `port`, as far as this user may know: `redis-server (pid 412)`, else `another process`."""
    with contextlib.suppress(Exception):  # psutil is missing, or may not look (macOS)
        import psutil

        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:2] == (port,) and connection.pid:
                process = psutil.Process(connection.pid)
                return f"{process.name()} (pid {process.pid}, user {process.username()})"
    return "another process"


def require_free(wanted: Mapping[str, int]) -> None:
    """All ports of `wanted` (setting's name → port) are free and differ.

    Raises:
        LocalError: names each port that is taken, who holds it, and the setting that moves it.
    """
    problems = []
    owners: dict[int, str] = {}
    for setting, port in wanted.items():
        if port in owners:
            problems.append(f"Port {port} is set twice, by {owners[port]} and {setting}: change one of them.")
        elif not is_free(port):
            problems.append(f"Port {port} is taken by {holder(port)}. End it, or set {setting} to another port.")
        owners.setdefault(port, setting)
    if problems:
        raise LocalError("\n".join(problems))
