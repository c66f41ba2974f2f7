"""Alerts in Redis: those that fire, those of the last 90 days, the log of transitions, and the engine's snapshot.

All keys carry the hash tag `{alerts}`, the outbox's too: an alert and its deliveries are written in one call.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec

from alerts.alert import Alert, decode, encode
from alerts.outbox import Delivery, delivery_key, due_key

if TYPE_CHECKING:
    from redis import Redis

_PREFIX = "nq:{alerts}:"
_STATE, _OPEN, _LOG = f"{_PREFIX}state", f"{_PREFIX}open", f"{_PREFIX}log"
_LIFE_S = 90 * 86_400
_LOG_LENGTH = 100_000


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the log."""

    id: str
    revision: int
    status: str
    series: str
    at: str
    summary: str


_line = msgspec.json.Decoder(Transition)


class AlertStore:
    """Reads and writes alerts. Every method raises `redis.RedisError` when the server cannot answer."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._put = redis.register_script(files("alerts").joinpath("store.lua").read_text("utf-8"))

    def put(self, alert: Alert, deliveries: Sequence[Delivery], now_s: float, *, transition: bool = True) -> bool:
        """Store a revision, its deliveries, due at `now_s` (Unix), and the log's line of a `transition`, in one step.

        Returns False, and changes nothing, when that revision or a later one is stored already.
        """
        line = Transition(
            id=alert.id,
            revision=alert.revision,
            status=alert.status,
            series=alert.series,
            at=alert.updated_at.isoformat(),
            summary=alert.summary,
        )
        keys = [f"{_PREFIX}alert:{alert.id}", _OPEN, _LOG]
        for delivery in deliveries:
            keys += [due_key(delivery.receiver), delivery_key(delivery.id)]
        arguments: list[Any] = [alert.revision, encode(alert), alert.id, alert.status, _LIFE_S, _LOG_LENGTH]
        arguments += [
            msgspec.json.encode(line) if transition else b"",
            repr(now_s),
            *map(msgspec.json.encode, deliveries),
        ]
        return bool(self._put(keys=keys, args=arguments))

    def get(self, alert_id: str) -> Alert | None:
        """Return the alert's last revision, None when there is none (any more)."""
        raw: Any = self._redis.get(f"{_PREFIX}alert:{alert_id}")
        return None if raw is None else decode(raw)

    def open(self) -> list[Alert]:
        """Return the alerts that fire now, the newest first."""
        ids: Any = self._redis.smembers(_OPEN)
        found = [self.get(raw.decode()) for raw in ids]
        return sorted((alert for alert in found if alert), key=lambda alert: alert.started_at, reverse=True)

    def log(self, count: int = 100) -> list[Transition]:
        """Return the last `count` transitions, the newest first."""
        entries: Any = self._redis.xrevrange(_LOG, count=count)
        return [_line.decode(fields[b"line"]) for _, fields in entries]

    def save_state(self, state: bytes) -> None:
        """Replace the engine's snapshot."""
        self._redis.set(_STATE, state)

    def load_state(self) -> bytes | None:
        """Return the engine's snapshot, None when there is none."""
        raw: Any = self._redis.get(_STATE)
        return raw if raw is None else bytes(raw)
