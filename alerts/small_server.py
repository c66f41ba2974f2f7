"""What keeps a server of short requests small, whoever speaks to it: few connections, and each request in time."""

from __future__ import annotations

import io
import logging
import socket
import threading
import time
from contextlib import suppress
from socketserver import StreamRequestHandler, ThreadingMixIn
from typing import Any

log = logging.getLogger(__name__)

CONNECTIONS = 50
"""Most connections at a time: each holds a thread and a descriptor, of which the process needs others."""
REQUEST_S = 10.0
"""Seconds within which a connection must have sent its request, and then take the answer."""


class SmallServer(ThreadingMixIn):
    """A thread a connection; closes those beyond `CONNECTIONS` at once, and says so."""

    daemon_threads = True

    def __init__(self, *args: Any, **more: Any) -> None:
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__(*args, **more)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin a connection."""
        if not self._free.acquire(blocking=False):
            log.warning("a connection from %s was closed: %d are open", client_address[0], CONNECTIONS)
            self.shutdown_request(request)  # type: ignore[attr-defined]  # of the server that this is mixed into
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection until its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()


class InTime(StreamRequestHandler):
    """Ends a connection whose request is not there `REQUEST_S` after it began, however busily it dribbles."""

    def setup(self) -> None:
        """Read from the connection under that limit."""
        super().setup()
        self.connection.settimeout(REQUEST_S)
        self.rfile.close()
        self.rfile = io.BufferedReader(_Incoming(self.connection, REQUEST_S))

    def handle(self) -> None:
        """Serve the request; one that comes too late is no error."""
        with suppress(TimeoutError):
            super().handle()


class _Incoming(io.RawIOBase):
    """What a connection sends within a time; after it, reading raises TimeoutError."""

    def __init__(self, connection: socket.socket, time_s: float) -> None:
        self._connection, self._time_s = connection, time_s
        self._until = time.monotonic() + time_s

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, into: Any) -> int:
        """Wait for the next bytes, no longer than the time that is left."""
        left_s = self._until - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the request did not come in time")
        self._connection.settimeout(left_s)
        try:
            return self._connection.recv_into(into)
        finally:
            self._connection.settimeout(self._time_s)  # for the answer
