"""Which of the servers' lines are shown, and how any line is shown."""

import io
import os
import pty
from pathlib import Path

import pytest

from deploy.local.output import Copier, Stream, escape, show_kafka_warnings, show_valkey_warnings


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("2026-11-24T09:12:31.104+0000 INFO kafka.server.KafkaServer - started", False),
        ("2026-11-24T09:12:31.104+0000 WARN kafka.server.KafkaServer - disk is slow", True),
        ("2026-11-24T09:12:31.104+0000 ERROR kafka.server.KafkaServer - disk is full", True),
        ("2026-11-24T09:12:31.104+0000 WARN x - Performing controller activation. The metadata log is empty", False),
        ("\tat org.apache.kafka.Thing.run(Thing.java:1)", False),
        ("Caused by: java.io.IOException: no", False),
        ("Error: Could not find or load main class kafka.Kafka", True),
        ("Terminating due to java.lang.OutOfMemoryError: Java heap space", True),
        ("", False),
    ],
)
def test_kafka_is_reduced_to_warnings(line, shown):
    assert show_kafka_warnings(line) is shown


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("14542:M 24 Nov 2026 09:30:04.981 * Ready to accept connections tcp", False),
        ("14542:M 24 Nov 2026 09:30:04.981 # Can't save in background: fork: Cannot allocate memory", True),
        ("14542:M 24 Nov 2026 09:30:04.935 # WARNING Memory overcommit must be enabled! Without it", False),
        ("14542:signal-handler (1795512631) Received SIGTERM scheduling shutdown...", False),
        ("*** FATAL CONFIG FILE ERROR (Version 9.1.2) ***", True),
    ],
)
def test_valkey_is_reduced_to_warnings(line, shown):
    assert show_valkey_warnings(line) is shown


def test_hostile_text_is_only_text():
    assert escape("a\tb é 日本") == "a\tb é 日本"
    assert escape("\x1b]0;title\x07\r\n\u202e\u200b\ud800") == r"\x1b]0;title\x07\r\n\u202e\u200b?"


def test_a_log_file_that_cannot_be_written_is_said_once_and_costs_no_line():
    output = io.StringIO()
    copier = Copier("one", Stream(["one"], file=output), Path("/dev/full"))
    read_end, write_end = os.pipe()
    os.write(write_end, b"first\nsecond\nthird\n")
    os.close(write_end)
    copier.copy(os.fdopen(read_end, "rb")).join()
    copier.close()
    assert all(word in output.getvalue() for word in ("first", "second", "third"))
    assert output.getvalue().count("cannot write /dev/full") == 1


def test_a_console_that_is_full_costs_its_lines_alone(tmp_path):
    read_end, write_end = os.pipe()
    os.write(write_end, b"first\nsecond\nthird\n")
    os.close(write_end)
    with io.TextIOWrapper(io.FileIO("/dev/full", "w")) as full:  # no buffer: it would fail once more when closed
        stream = Stream(["one"], file=full)
        copier = Copier("one", stream, tmp_path / "one.log")
        copier.copy(os.fdopen(read_end, "rb")).join()
        copier.close()
    assert (tmp_path / "one.log").read_text() == "first\nsecond\nthird\n"
    assert not stream.reader_left


def test_a_terminal_that_is_gone_is_a_reader_that_left():
    terminal, ours = pty.openpty()
    with os.fdopen(ours, "w") as file:
        stream = Stream(["one"], file=file)
        stream.line("one", "first")
        assert not stream.reader_left
        os.close(terminal)
        stream.line("one", "second")
        assert stream.reader_left
        stream.line("one", "third")
