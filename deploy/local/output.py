"""One readable stream from the output of several programs, and the whole of each in a file of its own."""

import contextlib
import errno
import logging
import os
import re
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO, Any, cast

from rich.console import Console
from rich.text import Text

Show = Callable[[str], bool]
"""Whether a line of a program is shown in the stream; the file has all."""

_COLOURS = ("cyan", "green", "magenta", "blue", "yellow", "bright_cyan", "bright_green", "bright_magenta")
_MAX_LINE_BYTES = 16_384
_FILE_BYTES = 10_000_000
_FILES_KEPT = 3

# A program's own time, which takes the place of ours: 2026-01-31T23:59:59[.123][Z|+0000]
_STAMP = re.compile(r"\d{4}-\d\d-\d\d[T ](?P<time>\d\d:\d\d:\d\d)\S* ")
# What the servers call a warning at each healthy start or stop of one node. Their log files keep these lines.
_HARMLESS = (
    "Performing controller activation.",  # Kafka, on a new directory
    "Attempting to close NetworkClient that has already been closed",  # Kafka, at its end
    "Memory overcommit must be enabled",  # Valkey; `newsquake doctor` explains it
    "is now ready to exit, bye bye",  # Valkey, at its end
)
_LEVEL_STYLES = (("ERROR", "bold red"), ("FATAL", "bold red"), ("CRITICAL", "bold red"), ("WARN", "yellow"))


def show_all(line: str) -> bool:
    """Every line."""
    return True


def show_kafka_warnings(line: str) -> bool:
    """Kafka's lines from level WARN on, without stack traces, and what the JVM itself says."""
    if match := _STAMP.match(line):
        return line[match.end() :].startswith(("WARN", "ERROR", "FATAL")) and not _is_harmless(line)
    return not line.startswith((" ", "\t", "Caused by:", "java.", "org.", "[")) and bool(line.strip())


def show_valkey_warnings(line: str) -> bool:
    """Valkey's lines of its highest level, `#`: `123:M 31 Jan 2026 23:59:59.123 # text`."""
    ours = re.match(r"\d+:(\w \d+ \w+ \d+ [\d:.]+ (?P<level>.)|signal-handler) ", line)
    return (not ours or ours["level"] == "#") and not _is_harmless(line)


def _is_harmless(line: str) -> bool:
    return any(words in line for words in _HARMLESS)


class _Lossy:
    """A file of text where a line that cannot be written is lost, and costs nothing else.

    A pipe without a reader and a terminal that is gone take no line ever again: what follows goes nowhere. rich's own
    answer to that is to end the process; the supervisor has programs to end first.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file, self._was_terminal = file, file.isatty()
        self.reader_left = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: str) -> None:
        with self._losses():
            self._file.write(text)

    def flush(self) -> None:
        with self._losses():
            self._file.flush()

    @contextlib.contextmanager
    def _losses(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            if isinstance(exc, BrokenPipeError) or (self._was_terminal and exc.errno == errno.EIO):
                self.reader_left = True
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self._file.fileno())
                os.close(null)


class Stream:
    """Writes lines of many programs to one console, from any thread."""

    def __init__(self, names: list[str], *, file: IO[str] | None = None) -> None:
        """Writes to `file`, by default standard output; `names` get a colour each and set their column's width."""
        self._file = _Lossy(file or sys.stdout)
        self._console = Console(file=cast("IO[str]", self._file), highlight=False, markup=False, emoji=False)
        self._styles = {name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(names)}
        self._width = max(map(len, [*names, "up"]))
        self._lock = threading.Lock()

    @property
    def reader_left(self) -> bool:
        """True once nobody reads the stream any more, as after `newsquake up | head` or when its terminal is gone."""
        return self._file.reader_left

    def line(self, name: str, text: str) -> None:
        """One line of program `name`; control characters are escaped."""
        time = f"{datetime.now(UTC):%H:%M:%S}"
        if match := _STAMP.match(text):
            time, text = match["time"], text[match.end() :]
        text = escape(text)
        style = next((style for level, style in _LEVEL_STYLES if text.startswith(level)), "")
        parts = ((f"{time} ", "dim"), (f"{name:<{self._width}} ", self._styles.get(name, "bold")), (text, style))
        self._print(Text.assemble(*parts))

    def show(self, renderable: object) -> None:
        """Anything that rich can show, such as a table."""
        self._print(renderable)

    def _print(self, renderable: object) -> None:
        with self._lock:
            self._console.print(renderable, soft_wrap=isinstance(renderable, Text))


def escape(text: str) -> str:
    """`text` without anything that could move a terminal's cursor or hide what follows."""
    return "".join(
        char if char == "\t" or unicodedata.category(char)[0] != "C" else char.encode("unicode_escape").decode()
        for char in text.encode("utf-8", "replace").decode()
    )


class _File(RotatingFileHandler):
    """A program's whole output; a full disk costs the file's lines, not the program."""

    def __init__(self, path: Path, failed: Callable[[str], None]) -> None:
        super().__init__(path, maxBytes=_FILE_BYTES, backupCount=_FILES_KEPT, encoding="utf-8", errors="replace")
        self._failed: Callable[[str], None] | None = failed

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        if self._failed:
            self._failed(f"WARNING cannot write {self.baseFilename}: {sys.exc_info()[1]}; its lines are lost")
            self._failed = None


class Copier:
    """Copies one program's output to the stream and its file, over all its restarts."""

    def __init__(self, name: str, stream: Stream, log_file: Path | None, show: Show = show_all) -> None:
        self._name, self._stream, self._show = name, stream, show
        self._file = _File(log_file, lambda text: stream.line(name, text)) if log_file else None

    def copy(self, output: IO[bytes]) -> threading.Thread:
        """Starts to copy `output` until its end; the thread returned ends then."""
        thread = threading.Thread(target=self._run, args=(output,), name=f"output of {self._name}", daemon=True)
        thread.start()
        return thread

    def _run(self, output: IO[bytes]) -> None:
        with output:
            # A line without an end is cut: memory stays bounded whatever a program writes.
            while raw := output.readline(_MAX_LINE_BYTES):
                line = raw.decode("utf-8", "replace").rstrip("\r\n")
                if self._file:
                    self._file.handle(logging.makeLogRecord({"msg": line}))
                if self._show(line):
                    self._stream.line(self._name, line)

    def close(self) -> None:
        """Closes the file."""
        if self._file:
            with contextlib.suppress(OSError):  # a full disk, said before
                self._file.close()
