"""What was tried of an alert's deliveries: a line each in Redis, and of what has no end the last ones and how many.

`nq:{alerts}:told:<alert>` is a hash of lines. Repeats and digests, of which an alert may see any number while it fires,
share places in it, by receiver and outcome (`place_of`); `…:counts` says how many there were. `outbox.lua` writes both.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from alerts.alert import Event
from alerts.records import UNREADABLE

if TYPE_CHECKING:
    from redis import Redis

    from alerts.delivery import Delivery

log = logging.getLogger(__name__)

KEPT_S = 90 * 86_400
"""How long the history of an alert's deliveries is kept after its last line."""
PLACES: dict[Event, int] = {"alert.repeated": 1, "alert.digest": 50}
"""Lines that are kept of these, for each receiver and outcome."""

Status = Literal["delivered", "failed", "dead", "superseded"]


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an alert's history of deliveries: what became of the delivery `id` at its last attempt.

    `created_s` is when it was made. `superseded` is what was given up and is told no more, since the receiver was told
    something later.
    """

    id: str
    receiver: str
    event: Event
    status: Status
    at_s: float
    attempts: int
    reason: str = ""
    created_s: float = 0.0


class History(NamedTuple):
    """The lines that are kept, the oldest first, and how many `more` repeats and digests there were before them."""

    lines: list[Told]
    more: int


_told = msgspec.json.Decoder(Told)


def told_key(alert: str) -> str:
    """Return the key of an alert's lines."""
    return f"nq:{{alerts}}:told:{alert}"


def counts_key(alert: str) -> str:
    """Return the key of how many repeats and digests an alert has seen, by receiver and outcome."""
    return f"{told_key(alert)}:counts"


def place_of(delivery: Delivery, status: Status) -> tuple[str, int]:
    """Return where a delivery's line stands, and among how many places there; 0: it has one to itself."""
    places = PLACES.get(delivery.event, 0) if status != "failed" else 0
    return (f"{delivery.event}:{delivery.receiver}:{status}" if places else delivery.id), places


def line_of(delivery: Delivery, status: Status, at_s: float) -> Told:
    """Return the line that says what became of a delivery."""
    return Told(
        id=delivery.id,
        receiver=delivery.receiver,
        event=delivery.event,
        status=status,
        at_s=at_s,
        attempts=delivery.attempts,
        reason=delivery.reason,
        created_s=delivery.created_s,
    )


def read_history(redis: Redis, alert: str) -> History:
    """Return what was tried of an alert's deliveries in the last 90 days.

    Raises:
        redis.RedisError: the server failed.
    """
    with redis.pipeline(transaction=True) as pipe:
        pipe.hvals(told_key(alert))
        pipe.hgetall(counts_key(alert))
        raws, counts = pipe.execute()
    lines = sorted((line for raw in raws if (line := _line(alert, raw)) is not None), key=lambda line: line.at_s)
    kept = sorted({line.id: line for line in lines}.values(), key=lambda line: line.at_s)
    return History(kept, sum(_beyond(field, raw) for field, raw in counts.items()))


def places_of(redis: Redis, alert: str, delivery_id: str) -> list[bytes]:
    """Return where lines of a delivery stand now."""
    raws: Any = redis.hgetall(told_key(alert))
    return [at for at, raw in raws.items() if (line := _line(alert, raw)) is not None and line.id == delivery_id]


def _line(alert: str, raw: bytes) -> Told | None:
    try:
        return _told.decode(raw)
    except UNREADABLE as exc:
        log.error("a line of the deliveries of alert %s cannot be read and is passed over (%s)", alert, exc)
        return None


def _beyond(field: bytes, raw: bytes) -> int:
    """Return how many lines of a kind are kept no more."""
    kept = next((places for event, places in PLACES.items() if field.startswith(f"{event}:".encode())), 0)
    return max(0, int(raw) - kept) if raw.isdigit() else 0
