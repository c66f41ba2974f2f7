"""What the dispatcher has stored: its place in the log, and what it knows of alerts and groups.

All of it moves in one call, with the deliveries that come of it. What cannot be read holds up nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
from redis.exceptions import ResponseError

from alerts.cursors import Cursor, read_cursor
from alerts.delivery import Delivery, delivery_key, due_key
from alerts.groups import Group, Groups, Known
from alerts.records import UNREADABLE, name_of
from alerts.store import BOOK, FENCE, fenced
from alerts.stored import PREFIX

if TYPE_CHECKING:
    from redis import Redis

log = logging.getLogger(__name__)

CURSOR = f"{PREFIX}dispatch:cursor"
"""The id of the last entry of the log that was taken note of."""
COPY = f"{CURSOR}:copy"
"""The same once more, for when what stands there is none."""
ALERTS, GROUPS = BOOK, f"{PREFIX}dispatch:groups"
"""Hashes: alert → `Known`, key of a group → `Group`, as JSON."""
ENDS_KEPT_S = 30 * 86_400
"""How long it is known which deliveries told of an alert's end: longer than any of them waits."""
_T = TypeVar("_T")
_known = msgspec.json.Decoder(Known)
_group = msgspec.json.Decoder(Group)


class MovedError(Exception):
    """Somebody else moved the cursor: nothing was written, and the next step begins at what is stored."""


class Stored(NamedTuple):
    """What was stored.

    Of the alerts that are `lost` nothing could be read; those `put_back` came back from Kafka.
    """

    book: Groups
    cursor: Cursor
    lost: set[str]
    put_back: set[str]


class ToldBook:
    """Reads and writes it. Every method raises `redis.RedisError` when the server cannot answer.

    `token` gives the leader's token, which every write carries.
    """

    def __init__(self, redis: Redis, token: Callable[[], str], singly: Collection[str]) -> None:
        """Receivers that take alerts `singly` get a message for each."""
        self._redis, self._token, self._singly = redis, token, singly
        self._script = redis.register_script(files("alerts").joinpath("dispatch.lua").read_text("utf-8"))

    def load(self) -> Stored:
        """Return what is stored."""
        cursor = read_cursor(self._redis, CURSOR, COPY)
        alerts: Any = self._redis.hgetall(ALERTS)
        groups: Any = self._redis.hgetall(GROUPS)
        put_back = {name_of(key) for key, raw in alerts.items() if not raw}
        known, lost = _decoded("alert", {key: raw for key, raw in alerts.items() if raw}, _known)
        read, lost_groups = _decoded("group", groups, _group)
        book = Groups(known, read, self._singly)
        book.changed_alerts |= lost | put_back
        book.changed_groups |= lost_groups
        return Stored(book, cursor, lost, put_back)

    def commit(self, book: Groups, before: bytes, cursor: str, made: Iterable[Delivery], wall_s: float) -> None:
        """Store what has changed in the book, with the deliveries made, and the new cursor in the place of `before`.

        Raises:
            FencedError: another process leads.
            MovedError: another process dispatches.
        """
        keys = [FENCE, CURSOR, ALERTS, GROUPS, COPY]
        arguments: list[Any] = [self._token(), before, cursor]
        for changed, there in ((book.changed_alerts, book.known), (book.changed_groups, book.groups)):
            kept = [key for key in changed if key in there]
            pairs = [part for key in kept for part in (key, msgspec.json.encode(there[key]).decode())]
            gone = [key for key in changed if key not in there]
            arguments += [msgspec.msgpack.encode(pairs), msgspec.msgpack.encode(gone)]
        ends = [(alert, receiver, told) for alert, each in book.ended.items() for receiver, told in each.items()]
        arguments += [msgspec.msgpack.encode([part for _, *pair in ends for part in pair]), ENDS_KEPT_S]
        for number, each in enumerate(made):
            # A microsecond apart, so that it can be told of each what came before it; a receiver's queue has them so.
            delivery = msgspec.structs.replace(each, created_s=wall_s + number * 1e-6)
            keys += [due_key(delivery.receiver), delivery_key(delivery.id)]
            arguments += [f"{delivery.created_s:.6f}", msgspec.json.encode(delivery)]
        keys += [ends_key(alert) for alert, _, _ in ends]
        try:
            moved = self._script(keys=keys, args=arguments)
        except ResponseError as exc:
            raise fenced(exc) from exc
        if not moved:
            raise MovedError("another process has moved the dispatcher's cursor")
        book.changed_alerts.clear()
        book.changed_groups.clear()
        book.ended.clear()

    def was_put_back(self, alert: str) -> bool:
        """Say whether an alert came back from Kafka, and nothing was told of it since."""
        return self._redis.hget(ALERTS, alert) == b""

    def ended(self, alert: str) -> dict[str, str]:
        """Return by receiver which delivery told of an alert's end last."""
        stored: Any = self._redis.hgetall(ends_key(alert))
        return {key.decode(): raw.decode() for key, raw in stored.items()}


def ends_key(alert: str) -> str:
    """Return the key of a hash: receiver → the delivery that told it of the alert's end last."""
    return f"{PREFIX}dispatch:ended:{alert}"


def _decoded(what: str, raws: Any, decoder: msgspec.json.Decoder[_T]) -> tuple[dict[str, _T], set[str]]:
    """Return what a hash of the book holds, and the keys of what cannot be read."""
    found: dict[str, _T] = {}
    for key, raw in raws.items():
        try:
            found[key.decode()] = decoder.decode(raw)
        except UNREADABLE as exc:
            log.error("what was told of %s %r cannot be read; it is noted anew (%s)", what, key, exc)
    return found, set(map(name_of, raws)) - found.keys()
