"""Log lines: one line each, hostile text escaped, and libraries that repeat themselves calmed."""

from __future__ import annotations

import logging
import sys

from deploy.log import _Calm, _OneLine


def record(name: str, message: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, "file", 1, message, args, None)


def test_control_characters_of_hostile_text_do_not_reach_the_terminal() -> None:
    line = _OneLine("%(message)s").format(record("stream", "bad: %s", "\x1b[2Jboo\r\nfake line"))
    assert line == "bad: \\x1b[2Jboo\\r\\nfake line"


def test_control_characters_in_a_traceback_do_not_reach_the_terminal() -> None:
    try:
        raise ValueError("\x1b[2Jboo\r\n2026-01-01T00:00:00Z INFO fake line")
    except ValueError:
        failed = logging.LogRecord("stream", logging.ERROR, "file", 1, "failed", (), sys.exc_info())
    first, *lines = _OneLine("%(message)s").format(failed).split("\n")
    assert first == "failed"
    assert lines[-2:] == ["  ValueError: \\x1b[2Jboo\\r", "  2026-01-01T00:00:00Z INFO fake line"]
    assert all(line.isprintable() and line.startswith("  ") for line in lines)


def test_a_library_that_repeats_itself_is_heard_once_in_ten_seconds_with_the_number() -> None:
    now = 100.0
    calm = _Calm(lambda: now)
    assert [calm.filter(record("aiokafka", "Unable to connect to %s", n)) for n in range(5)] == [True] + [False] * 4
    assert calm.filter(record("aiokafka", "Something else"))
    assert all(calm.filter(record("stream.batch", "dead")) for _ in range(5))
    now += 11
    again = record("aiokafka", "Unable to connect to %s", "x")
    assert calm.filter(again)
    assert again.getMessage() == "Unable to connect to x (and 4 times more before)"
