"""How an alert lies in Redis: its keys, and what stands there as what it is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from alerts.alert import Alert, AlertError, decode
from alerts.life import AlertView, Life, Transition
from alerts.records import UNREADABLE

log = logging.getLogger(__name__)
_T = TypeVar("_T")

PREFIX = "nq:{alerts}:"
"""Begins all keys of alerting: one slot of a cluster."""
_lines = msgspec.json.Decoder(Transition)
_lives = msgspec.json.Decoder(Life)


def keys_of(alert_id: str) -> tuple[str, str, str]:
    """Return the keys of an alert, of its life and of its history."""
    return f"{PREFIX}alert:{alert_id}", f"{PREFIX}life:{alert_id}", f"{PREFIX}history:{alert_id}"


def place_of(alert: Alert, life: Life) -> str:
    """Return which set an alert belongs into by now: "open", "after", or "" for none."""
    if alert.status == "firing":
        return "open"
    return "" if life.state == "resolved" else "after"


def view_of(alert_id: str, alert: Any, life: Any, history: Any) -> AlertView | None:
    """Return what is stored of an alert, None when something lacks or cannot be read: one stops not the others."""

    def view(raw: bytes) -> AlertView:
        steps = tuple(_lines.decode(line) for line in history)
        return AlertView(alert=decode(raw), life=_lives.decode(life), transitions=steps)

    return None if life is None else _readable(alert_id, alert, view)


def alert_of(alert_id: str, raw: Any) -> Alert | None:
    """Return an alert, None when there is none that can be read."""
    return _readable(alert_id, raw, decode)


def life_of(alert_id: str, raw: Any) -> Life | None:
    """Return an alert's life, None when there is none that can be read."""
    return _readable(alert_id, raw, _lives.decode)


def step_of(entry: str, fields: Any, level: int = logging.ERROR) -> Transition | None:
    """Return the transition in an entry of the log, None when it holds none: another version's, or another hand's.

    That is said at a level of the log; who looks ahead says it lower, and again when it is the entry's turn.
    """
    try:
        return _lines.decode(fields[b"line"])
    except (*UNREADABLE, KeyError) as exc:
        log.log(level, "entry %s of the log is no transition and is passed over (%r)", entry, exc)
        return None


def _readable(alert_id: str, raw: Any, read: Callable[[bytes], _T]) -> _T | None:
    try:
        return None if raw is None else read(raw)
    except (AlertError, *UNREADABLE) as exc:
        log.error("what is stored of alert %s cannot be read and is passed over (%s)", alert_id, exc)
        return None
