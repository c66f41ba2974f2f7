"""What the windows made of a history, kept beside its items, so that judging it again counts nothing again.

It holds for the same items, scores, settings of windows and message path, partitions and code: `made_of` says which.
What was cut short, or made of something else, is made anew.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.resources import files
from pathlib import Path

import msgspec

from alerts.buckets import Places, Progress
from alerts.settings import WindowsSettings
from alerts.windows import Count, WindowItem
from stream.settings import StreamSettings

_BUCKETS = "buckets (minute INTEGER PRIMARY KEY, counts BLOB, items BLOB)"
TABLES = f"""
CREATE TABLE IF NOT EXISTS windows (made_of TEXT, made BLOB);
CREATE TABLE IF NOT EXISTS {_BUCKETS};
"""
_CODE = {
    "alerts": ("buckets.py", "series.py", "windows.lua", "windows.py"),
    "stream": ("backtest.py", "batch.py", "kept_windows.py", "scored.py"),
}
"""What decides where and as what an item counts."""

_Rows = list[tuple[str, int, str, int]]
_counts = msgspec.msgpack.Decoder(_Rows)
_items = msgspec.msgpack.Decoder(list[WindowItem])


class Made(msgspec.Struct, frozen=True):
    """What became of all items: the minutes (Unix time // 60) of the first and last, and outcomes as in `Added`.

    `ends` are the times (Unix s) up to which they were counted in each step.
    """

    first: int
    last: int
    ends: list[float]
    outcomes: dict[str, int]


def made_of(items: str, scores: str, partitions: int, windows: WindowsSettings, stream: StreamSettings) -> str:
    """Return what windows are made of, as a digest; `items` and `scores` say which, and as what they count."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (items, scores, str(partitions), windows.model_dump_json(), stream.model_dump_json()):
        digest.update(part.encode() + b"\0")
    for package, names in _CODE.items():
        for name in names:
            digest.update(files(package).joinpath(name).read_bytes())
    return digest.hexdigest()


class KeptWindows:
    """Sealed buckets by arrival minute (Unix time // 60), in the SQLite file of a `History`, which has `TABLES`.

    They are written once (`begin`, `add`, `finish`), and then read as `alerts.buckets.Buckets` are.
    """

    def __init__(
        self,
        base: sqlite3.Connection,
        made_of: str,
        translated: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Within `translated` errors of SQLite become what the caller tells of."""
        self._translated = translated
        self._base = base
        self.made_of = made_of
        self._clock_ms = 0

    def made(self) -> Made | None:
        """Return what is kept; None when it is not whole, or was made of something else."""
        with self._translated():
            row = self._base.execute("SELECT made FROM windows WHERE made_of = ?", (self.made_of,)).fetchone()
        return None if row is None else msgspec.msgpack.decode(row[0], type=Made)

    def begin(self) -> None:
        """Forget all that is kept."""
        with self._translated():
            self._base.execute("DELETE FROM windows")
            self._base.execute("DELETE FROM buckets")

    def add(self, buckets: Iterable[tuple[int, Mapping[Count, int], Sequence[WindowItem]]]) -> None:
        """Keep what these minutes hold: counts, and the negative items that are listed."""
        encode = msgspec.msgpack.encode
        rows = [
            (minute, encode([(*key, number) for key, number in counts.items()]), encode(listed) if listed else None)
            for minute, counts, listed in buckets
        ]
        with self._translated():
            self._base.execute("BEGIN")
            self._base.executemany("INSERT INTO buckets VALUES (?, ?, ?)", rows)
            self._base.execute("COMMIT")

    def finish(self, made: Made) -> None:
        """Nothing more comes: from now on it is kept as a whole."""
        with self._translated():
            self._base.execute("INSERT INTO windows VALUES (?, ?)", (self.made_of, msgspec.msgpack.encode(made)))

    def copy_to(self, path: Path) -> None:
        """Write what is kept to a new SQLite file, for other processes to read: this one has its own to itself."""
        with self._translated():
            self._base.execute("ATTACH DATABASE ? AS copy", (str(path),))
            try:
                self._base.execute("PRAGMA copy.synchronous = OFF")
                self._base.execute(f"CREATE TABLE copy.{_BUCKETS}")
                self._base.execute("INSERT INTO copy.buckets SELECT * FROM main.buckets")
            finally:
                self._base.execute("DETACH DATABASE copy")

    def all(self) -> Iterator[dict[Count, int]]:
        """Yield the counts of all minutes, in order."""
        with self._translated():
            for (raw,) in self._base.execute("SELECT counts FROM buckets ORDER BY minute"):
                yield _decoded(raw)

    def move_clock(self, now_s: float) -> None:
        """From now on all has been read up to this time."""
        self._clock_ms = int(now_s * 1000)

    def now(self) -> float:
        """Return the time, in Unix seconds, up to which all has been read."""
        return self._clock_ms / 1000

    def progress(self) -> list[Progress]:
        """See `Buckets.progress`: it is as if there were one partition."""
        return [Progress(clock_ms=self._clock_ms)]

    def seal(self, minute: int) -> None:
        """See `Buckets.seal`: nothing comes that could go into an earlier bucket."""

    def counts(self, minutes: Sequence[int], places: Places | None = None) -> list[dict[Count, int]]:
        """See `Buckets.counts`."""
        found = self._between("counts", minutes)
        return [_decoded(found[minute]) if minute in found else {} for minute in minutes]

    def items(self, minutes: Sequence[int]) -> list[WindowItem]:
        """See `Buckets.items`."""
        return [item for listed in self.listed(minutes) for item in listed]

    def listed(self, minutes: Sequence[int], places: Places | None = None) -> list[list[WindowItem]]:
        """See `Buckets.listed`."""
        found = self._between("items", minutes)
        return [_items.decode(found[minute]) if minute in found else [] for minute in minutes]

    def places(self) -> dict[int, list[int]]:
        """See `Buckets.places`; which partition an item came by is not kept."""
        with self._translated():
            return {minute: [] for (minute,) in self._base.execute("SELECT minute FROM buckets ORDER BY minute")}

    def _between(self, column: str, minutes: Sequence[int]) -> dict[int, bytes]:
        """Return what a column holds of these rising minutes and those between them, where it holds anything."""
        query = f"SELECT minute, {column} FROM buckets WHERE minute BETWEEN ? AND ? AND {column} IS NOT NULL"  # noqa: S608 - names from above
        with self._translated():
            return dict(self._base.execute(query, (minutes[0], minutes[-1]))) if minutes else {}


def _decoded(raw: bytes) -> dict[Count, int]:
    return {(series, minute, label): number for series, minute, label, number in _counts.decode(raw)}
