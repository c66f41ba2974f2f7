"""A producer that is closed sends nothing later, and whoever closes it goes on."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError

from alerts.producers import close_producer


class Sender(threading.Thread):
    """A producer's thread, which ends when it is forced to."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.forced = threading.Event()
        self.start()

    def run(self) -> None:
        self.forced.wait()

    def force_close(self) -> None:
        self.forced.set()


class Producer:
    """One that does not close, for this reason, while its thread runs."""

    def __init__(self, exc: Exception | None) -> None:
        self._sender, self._exc, self.closed = Sender(), exc, 0

    def close(self, timeout: float) -> None:
        self.closed += 1
        if self._exc is not None and self._sender.is_alive():
            raise self._exc
        self._sender.force_close()


@pytest.mark.parametrize("exc", [None, KafkaTimeoutError("it holds something"), RuntimeError("nobody thought of this")])
def test_its_thread_ends_however_closing_goes(exc: Exception | None, caplog: pytest.LogCaptureFixture) -> None:
    producer: Any = Producer(exc)
    close_producer(producer, "alerts")
    producer._sender.join(10)
    assert not producer._sender.is_alive()
    assert producer.closed == (1 if exc is None else 2)
    assert ("a producer of alerts" in caplog.text) == (exc is not None)


def test_one_that_cannot_be_ended_is_said_and_none_is_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Stubborn:
        def close(self, timeout: float) -> None:
            raise KafkaTimeoutError

    stubborn: Any = Stubborn()
    close_producer(stubborn, "feedback")
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    close_producer(None, "feedback")
