"""A broker and a Valkey server as plain objects, for tests, the soak and the bench: start, kill, start again.

Port and data stay over restarts. `newsquake up` does not use these: there the supervisor runs the same programs.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from deploy.local.errors import LocalError
from deploy.local.jars import default_cache_dir, ensure_jars
from deploy.local.kafka import kafka_program
from deploy.local.ports import free_ports
from deploy.local.probe import kafka_problem, redis_problem, wait_until
from deploy.local.process import Program, Running
from deploy.local.valkey import valkey_program

START_TIMEOUT_S = 60
"""A broker that was killed hard first recovers its log, on a machine that may be busy."""

_STOP_DEADLINE_S = 20


class Server:
    """One program that listens on a port, its output in a file."""

    def __init__(self, program: Program, log: Path, problem: Callable[[], str | None]) -> None:
        self._program, self._log, self._problem = program, log, problem
        self._running: Running | None = None

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._running.pid if self._running else None

    def start(self) -> None:
        """Starts it and waits until it answers.

        Raises:
            LocalError: it already runs, ended at once, or does not answer; with the end of its output.
        """
        if self._running is not None:
            raise LocalError(f"{self._program.name} already runs.")
        with self._log.open("ab") as output:
            self._running = Running(self._program, output=output)
        try:
            wait_until(self._problem, START_TIMEOUT_S, self._running.poll)
        except LocalError as exc:
            self.kill()
            tail = self._log.read_text("utf-8", "replace")[-3000:]
            raise LocalError(f"{self._program.name} did not start. {exc}\n{tail}") from exc

    def kill(self) -> None:
        """SIGKILL."""
        if self._running is not None:
            self._running.kill()
            self._running = None

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that takes too long."""
        if self._running is not None:
            self._running.stop(_STOP_DEADLINE_S)
            self._running = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(LocalError):
            self.kill()


class LocalKafka(Server):
    """A real Kafka broker in a directory of its own."""

    def __init__(self, data_dir: Path, *, cache_dir: Path | None = None) -> None:
        port, controller_port = free_ports(2)
        self.bootstrap = f"127.0.0.1:{port}"
        """For clients: `host:port`."""
        jars = ensure_jars(cache_dir or default_cache_dir())
        program = kafka_program(data_dir, jars, port=port, controller_port=controller_port)
        super().__init__(program, data_dir / "kafka.log", lambda: kafka_problem(self.bootstrap))


class LocalValkey(Server):
    """A real Valkey server in a directory of its own."""

    def __init__(self, data_dir: Path, *, appendfsync: Literal["everysec", "always"] = "everysec") -> None:
        (port,) = free_ports(1)
        self.url = f"redis://127.0.0.1:{port}/0"
        """For clients: a `redis://` URL."""
        program = valkey_program(data_dir, port=port, appendfsync=appendfsync)
        super().__init__(program, data_dir / "valkey.log", lambda: redis_problem(self.url))
