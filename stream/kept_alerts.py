"""The alerts of the latest runs, kept beside what they were judged from, so that the same is not judged twice.

`stream.backtest_judging.Setup.digest` says what is the same. What cannot be read is dropped, and judged anew.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import msgspec

from alerts.alert import Alert
from alerts.records import UNREADABLE

TABLE = "CREATE TABLE IF NOT EXISTS alerts (number INTEGER PRIMARY KEY, digest TEXT UNIQUE, alerts BLOB);"
MOST_RUNS = 50
_alerts = msgspec.json.Decoder(list[Alert])


class KeptAlerts:
    """Alerts by digest, in the SQLite file of a `History`, which has `TABLE`; the latest `MOST_RUNS` stay."""

    def __init__(
        self, base: sqlite3.Connection, translated: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> None:
        """Within `translated` errors of SQLite become what the caller tells of."""
        self._base = base
        self._translated = translated

    def get(self, digest: str) -> list[Alert] | None:
        """Return the alerts of the run with that digest; None when they are not kept whole."""
        with self._translated():
            row = self._base.execute("SELECT alerts FROM alerts WHERE digest = ?", (digest,)).fetchone()
            if row is None:
                return None
            try:
                return _alerts.decode(zlib.decompress(row[0]))  # which has a checksum
            except (*UNREADABLE, zlib.error, TypeError):
                self._base.execute("DELETE FROM alerts WHERE digest = ?", (digest,))
                return None

    def put(self, digest: str, alerts: Sequence[Alert]) -> None:
        """Keep the alerts of a run as those of the latest."""
        kept = zlib.compress(msgspec.json.encode(alerts))
        with self._translated():
            self._base.execute("BEGIN")
            self._base.execute("INSERT OR REPLACE INTO alerts (digest, alerts) VALUES (?, ?)", (digest, kept))
            self._base.execute(
                "DELETE FROM alerts WHERE number NOT IN (SELECT number FROM alerts ORDER BY number DESC LIMIT ?)",
                (MOST_RUNS,),
            )
            self._base.execute("COMMIT")
