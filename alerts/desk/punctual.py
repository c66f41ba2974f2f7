"""Limits for clients that take their time over the head of a request or over an answer, for which uvicorn has none.

Guard cannot hold either: it sees whole heads, and an answer that is not taken holds up whoever sends it.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 10.0
"""Seconds within which a connection must have sent the head of its first request, or of the next once it began it."""
TAKE_S = 60.0
"""Seconds within which a client must take so much of an answer that there is room for more of it."""


class Punctual(H11Protocol):
    """Closes a connection whose request's head does not come in time, however busily it dribbles.

    It breaks off one whose client reads nothing, too: an event stream looks at the clock only between two messages.
    """

    _late: asyncio.TimerHandle | None = None
    _untaken: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Go on waiting until the head is whole; what follows it has limits of its own."""
        if self._late is None and not self._busy():
            self._wait()
        super().data_received(data)
        if self._busy():
            self._stop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop()
        self._taken()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Begin to wait for the client to read."""
        super().pause_writing()
        # To close would be to wait until it has read what is written.
        self._untaken = self.loop.call_later(TAKE_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Wait no more: it reads."""
        self._taken()
        super().resume_writing()

    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        self._late = self.loop.call_later(HEAD_S, self.transport.close)

    def _stop(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _taken(self) -> None:
        if self._untaken is not None:
            self._untaken.cancel()
            self._untaken = None
