"""The outbox: deliveries that wait in Redis until the receiver has taken them or they are given up.

A delivery is stored in the same call as what it tells of and leaves the outbox after the receiver's answer, so a crash
at any moment repeats it at most: with the same id, by which receivers know it again.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec

from alerts.breaker import Down
from alerts.delivery import Delivery, alerts_of, delivery_key, due_key
from alerts.history import (
    KEPT_S,
    History,
    Status,
    Told,
    counts_key,
    line_of,
    place_of,
    places_of,
    read_history,
    told_key,
)
from alerts.records import UNREADABLE, name_of
from alerts.stored import PREFIX

if TYPE_CHECKING:
    from redis import Redis

    from alerts.metrics import AlertsMetrics

log = logging.getLogger(__name__)

_DEAD, _DISABLED, _DOWN = f"{PREFIX}dead", f"{PREFIX}disabled", f"{PREFIX}down"
_SENT = f"{PREFIX}sent:"
_DEAD_LENGTH = 10_000
_CHUNK = 500
_AHEAD = 20  # looked at beyond those that are wanted: some may have to wait for what is on its way


class Queued(msgspec.Struct, frozen=True):
    """A delivery that waits, and when its next attempt is due (Unix seconds)."""

    due_s: float
    delivery: Delivery


_delivery = msgspec.json.Decoder(Delivery)
_down = msgspec.json.Decoder(Down)


def _decoded(raw: bytes) -> Delivery | None:
    """Return a delivery, None when it cannot be read (written by another version): it must not hold up the others."""
    try:
        return _delivery.decode(raw)
    except UNREADABLE:
        return None


def _held_key(receiver: str) -> str:
    """The key of a receiver's deliveries that digests stand for: id of the delivery → id of the digest."""
    return f"{PREFIX}held:{receiver}"


class Outbox:
    """Reads and moves deliveries. Every method raises `redis.RedisError` when the server cannot answer."""

    def __init__(self, redis: Redis, metrics: AlertsMetrics | None = None) -> None:
        """`metrics` count what cannot be read."""
        self._redis, self._metrics = redis, metrics
        self._settle = redis.register_script(files("alerts").joinpath("outbox.lua").read_text("utf-8"))
        self._fold = redis.register_script(files("alerts").joinpath("fold.lua").read_text("utf-8"))
        self._revive = redis.register_script(files("alerts").joinpath("revive.lua").read_text("utf-8"))

    def due(
        self, receiver: str, now_s: float, count: int = 1, beside: Mapping[str, Collection[str]] | None = None
    ) -> list[Delivery]:
        """Return up to `count` deliveries to try now, in their order; one that waits for another is put behind it.

        They may go in one message. Given what is on its way (id → alerts), each may go by itself, at once, `beside` all
        others: no two then tell of the same alert.
        """
        ready: dict[str, Delivery] = {}
        moved = True
        while moved and len(ready) < count:
            ready, moved = {}, False
            told_of = set[str]().union(*(beside or {}).values())
            ahead = 0 if beside is None else _AHEAD
            for queued in self._read(receiver, now_s, count + ahead, leave=beside or ()):
                delivery = queued.delivery
                if beside is not None:
                    alerts = set(alerts_of(delivery))
                    alone = alerts.isdisjoint(told_of)
                    told_of |= alerts
                    if not alone:
                        continue  # in its turn
                blocked_s = self._blocked_until(receiver, delivery, ready if beside is None else {})
                if blocked_s is None:
                    ready[delivery.id] = delivery
                    if len(ready) == count:
                        break
                else:
                    behind_s = max(blocked_s, now_s) + 0.001
                    self._redis.zadd(due_key(receiver), {delivery_key(delivery.id): behind_s}, xx=True)
                    moved = True
        return list(ready.values())

    def queued(self, receiver: str, count: int = 100) -> list[Queued]:
        """Return up to `count` deliveries that wait, those due first, first."""
        return self._read(receiver, float("inf"), count)

    def can_go(self, delivery: Delivery) -> bool:
        """Say whether nothing that must be gone before a delivery still waits."""
        return self._blocked_until(delivery.receiver, delivery, {}) is None

    def _read(
        self, receiver: str, upto_s: float, count: int, from_s: float = -math.inf, leave: Collection[str] = ()
    ) -> list[Queued]:
        num = count + len(leave)
        found: Any = self._redis.zrange(
            due_key(receiver), repr(from_s), repr(upto_s), byscore=True, offset=0, num=num, withscores=True
        )
        left = {delivery_key(each).encode() for each in leave}
        found = [each for each in found if each[0] not in left][:count]
        if not found:
            return []
        bodies: Any = self._redis.mget([key for key, _ in found])
        read = list[Queued]()
        for (key, due_s), raw in zip(found, bodies, strict=True):
            if raw is not None and (delivery := _decoded(raw)) is not None:
                read.append(Queued(float(due_s), delivery))
            else:
                self._leave_out(receiver, key, raw)
        return read

    def _leave_out(self, receiver: str, key: bytes, raw: bytes | None) -> None:
        """Move a delivery that cannot be read to the dead list as it is; None was removed by hand."""
        keys: list[Any] = [due_key(receiver), key, _DEAD, _held_key(receiver)]
        members = self._stands_for(receiver, name_of(key).removeprefix(delivery_key("")))
        if raw is None:
            with self._redis.pipeline(transaction=True) as pipe:
                pipe.zrem(due_key(receiver), key)
                for member in members:
                    pipe.hdel(_held_key(receiver), member)
                pipe.execute()
        elif self._settle(keys=keys, args=["dead", "", raw, "", _DEAD_LENGTH, "", KEPT_S, "", 0, *members]):
            log.error("%r for %s cannot be read, and is in the dead list as it is: %.500r", key, receiver, raw)
            if self._metrics is not None:
                self._metrics.deliveries.labels(receiver=receiver, outcome="dead").inc()

    def _blocked_until(self, receiver: str, delivery: Delivery, ready: dict[str, Delivery]) -> float | None:
        """When the last of what must go before is due, None when nothing waits but what is `ready` to go before."""
        before = [other for other in delivery.after if other not in ready]
        if not before:
            return None
        digests: Any = self._redis.hmget(_held_key(receiver), before)
        ids = set(before) | {raw.decode() for raw in digests if raw is not None}
        scores: Any = self._redis.zmscore(due_key(receiver), [delivery_key(other) for other in ids - set(ready)])
        return max((float(score) for score in scores if score is not None), default=None)

    def begin(self, delivery: Delivery, now_s: float, per_minute: int) -> bool:
        """Write down that a message goes out now; return False when its delivery is queued no more."""
        key = f"{_SENT}{delivery.receiver}"
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.zscore(due_key(delivery.receiver), delivery_key(delivery.id))
            pipe.lpush(key, repr(now_s))
            pipe.ltrim(key, 0, per_minute - 1)
            pipe.expire(key, 60)
            return pipe.execute()[0] is not None

    def sent(self, receiver: str) -> list[float]:
        """Return when messages went out to a receiver in the last minute (Unix), by whichever process, in order."""
        found: Any = self._redis.lrange(f"{_SENT}{receiver}", 0, -1)
        return sorted(float(at_s) for at_s in found)

    def done(self, delivery: Delivery, now_s: float) -> bool:
        """The receiver has it. Returns False when it was queued no more, here as in `retry` and `give_up`."""
        return self._move("done", delivery, "delivered", now_s)

    def retry(self, delivery: Delivery, due_s: float, now_s: float) -> bool:
        """Keep the delivery, with its new count of attempts, for `due_s` (Unix)."""
        return self._move("retry", delivery, "failed", now_s, due_s)

    def give_up(self, delivery: Delivery, now_s: float) -> bool:
        """Move the delivery, with its reason, to the dead list (the last 10,000 are kept)."""
        return self._move("dead", delivery, "dead", now_s)

    def _move(self, what: str, delivery: Delivery, status: Status, now_s: float, due_s: float = 0.0) -> bool:
        alerts = alerts_of(delivery)
        digest = what != "retry" and delivery.event == "alert.digest"
        members = self._stands_for(delivery.receiver, delivery.id) if digest else []
        keys = [due_key(delivery.receiver), delivery_key(delivery.id), _DEAD, _held_key(delivery.receiver)]
        keys += [key for alert in alerts for key in (told_key(alert), counts_key(alert))]
        body, line = msgspec.json.encode(delivery), msgspec.json.encode(line_of(delivery, status, now_s))
        args: list[Any] = [what, delivery.id, body, repr(due_s), _DEAD_LENGTH, line, KEPT_S]
        args += place_of(delivery, status)
        return bool(self._settle(keys=keys, args=[*args, *members]))

    def _stands_for(self, receiver: str, digest: str) -> list[Any]:
        """Return the ids of the deliveries in whose place a digest was put, though it cannot be read."""
        held: Any = self._redis.hgetall(_held_key(receiver))
        return [member for member, of in held.items() if name_of(of) == digest]

    def supersede(self, delivery: Delivery, now_s: float) -> bool:
        """Leave out, for its reason, a delivery that was to be sent again."""
        return self._move("superseded", delivery, "superseded", now_s)

    def fold(self, digest: Delivery, members: Sequence[Delivery], now_s: float) -> bool:
        """Put a digest in the place of those it stands for; False, and nothing done, when one is queued no more."""
        keys = [due_key(digest.receiver), delivery_key(digest.id), _held_key(digest.receiver)]
        keys += [delivery_key(member.id) for member in members]
        args: list[Any] = [msgspec.json.encode(digest), digest.id, repr(now_s), *(member.id for member in members)]
        return bool(self._fold(keys=keys, args=args))

    def hasten(self, receiver: str) -> int:
        """Make all that waits for a receiver due, in the order in which it was made; return how many."""
        waiting = self.queued(receiver, _DEAD_LENGTH)
        for first in range(0, len(waiting), _CHUNK):
            scores = {delivery_key(q.delivery.id): q.delivery.created_s for q in waiting[first : first + _CHUNK]}
            self._redis.zadd(due_key(receiver), scores, xx=True)
        return len(waiting)

    def set_back(self, receiver: str, now_s: float) -> int:
        """Make due in their order, as made now, what a clock that has stepped back since made; return how many."""
        later = [queued.delivery for queued in self._read(receiver, math.inf, _DEAD_LENGTH, now_s)]
        later = sorted((each for each in later if each.created_s > now_s), key=lambda each: each.created_s)
        for number, delivery in enumerate(later, 1 - len(later)):
            made = msgspec.structs.replace(delivery, created_s=now_s + number * 1e-6)
            keys = [due_key(receiver), delivery_key(made.id), _DEAD, _held_key(receiver)]
            body, due_s = msgspec.json.encode(made), repr(made.created_s)
            self._settle(keys=keys, args=["retry", made.id, body, due_s, _DEAD_LENGTH, "", KEPT_S, "", 0])
        return len(later)

    def drop_unknown(self, receivers: Sequence[str], now_s: float) -> int:
        """Give up what waits for receivers that are configured no more; return how many deliveries that were.

        Nothing else is kept of these either, but that one is disabled.
        """
        dropped = 0
        for key in self._scan(due_key("*")):
            receiver = name_of(key).removeprefix(due_key(""))
            while receiver not in receivers and (waiting := self.queued(receiver, _CHUNK)):
                for queued in waiting:
                    reason = "its receiver is configured no more"
                    self.give_up(msgspec.structs.replace(queued.delivery, reason=reason), now_s)
                dropped += len(waiting)
        for key in self._scan(_held_key("*")):
            receiver = name_of(key).removeprefix(_held_key(""))
            if receiver not in receivers and not self._redis.exists(due_key(receiver)):
                self._redis.delete(key)
        down: Any = self._redis.hkeys(_DOWN)
        for name in down:
            if name_of(name) not in receivers:
                self._redis.hdel(_DOWN, name)
        return dropped

    def _scan(self, pattern: str) -> list[Any]:
        return list(self._redis.scan_iter(match=pattern.replace("{", "\\{"), count=1_000))

    def waiting(self, receiver: str) -> tuple[int, float | None]:
        """Return how many deliveries wait for a receiver, and when the first is due (Unix seconds)."""
        first: Any = self._redis.zrange(due_key(receiver), 0, 0, withscores=True)
        count: Any = self._redis.zcard(due_key(receiver))
        return int(count), float(first[0][1]) if first else None

    def get(self, delivery_id: str) -> Delivery | None:
        """Return a delivery that waits or is dead, None when there is none."""
        raw: Any = self._redis.get(delivery_key(delivery_id))
        if raw is not None and (found := _decoded(raw)) is not None:
            return found
        return next((dead for dead in self.dead(_DEAD_LENGTH) if dead.id == delivery_id), None)

    def told(self, alert: str) -> list[Told]:
        """Return what was tried of an alert's deliveries in the last 90 days, the oldest first; see `history`."""
        return self.history(alert).lines

    def history(self, alert: str) -> History:
        """Return what was tried of an alert's deliveries in the last 90 days.

        Of repeats those that wait are among it, and the last to each receiver that was delivered, dead or superseded;
        of digests the last 50.
        """
        return read_history(self._redis, alert)

    def dead(self, count: int = 100) -> list[Delivery]:
        """Return the last `count` deliveries given up, the newest first."""
        found: Any = self._redis.lrange(_DEAD, 0, count - 1)
        return [dead for raw in found if (dead := _decoded(raw)) is not None]

    def dead_count(self) -> int:
        """Return the length of the dead list."""
        answer: Any = self._redis.llen(_DEAD)
        return int(answer)

    def given_up(self) -> list[tuple[bytes, Delivery]]:
        """Return the whole dead list, each as it stands there and as what it is."""
        raws: Any = self._redis.lrange(_DEAD, 0, -1)
        return [(raw, dead) for raw in raws if (dead := _decoded(raw)) is not None]

    def revive(self, raw: bytes, delivery: Delivery, now_s: float) -> bool:
        """Queue a delivery again, with all its attempts before it, that stands in the dead list as `raw`.

        Returns False when it stands there no more, here as in `supersede_dead`. `alerts.replay` says which to queue.
        """
        fresh = msgspec.structs.replace(delivery, attempts=0, reason="", revived_s=now_s)
        keys = [_DEAD, due_key(delivery.receiver), delivery_key(delivery.id), *map(told_key, alerts_of(delivery))]
        args: list[Any] = [raw, repr(min(delivery.created_s, now_s)), msgspec.json.encode(fresh), delivery.id]
        return bool(self._revive(keys=keys, args=args))

    def supersede_dead(self, raw: bytes, delivery: Delivery, now_s: float) -> bool:
        """Take a delivery out of the dead list; the histories of its alerts say that it is told no more, and why."""
        alerts = alerts_of(delivery)
        line = msgspec.json.encode(line_of(delivery, "superseded", now_s))
        standing = {alert: places_of(self._redis, alert, delivery.id) for alert in alerts}
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.lrem(_DEAD, 1, raw)  # type: ignore[arg-type]  # the types of redis-py know text alone
            for alert, places in standing.items():
                for place in places or [place_of(delivery, "superseded")[0].encode()]:
                    pipe.hset(told_key(alert), place, line)
                pipe.expire(told_key(alert), KEPT_S)
            return bool(pipe.execute()[0])

    def disable(self, receiver: str, reason: str) -> None:
        """Send nothing to this receiver until it is enabled again."""
        self._redis.hset(_DISABLED, receiver, reason)

    def enable(self, receiver: str) -> bool:
        """Send to this receiver again; return whether it was disabled."""
        return bool(self._redis.hdel(_DISABLED, receiver))

    def disabled(self, receiver: str) -> str | None:
        """Return why a receiver is disabled; None when it is not."""
        raw: Any = self._redis.hget(_DISABLED, receiver)
        return None if raw is None else name_of(raw)

    def set_down(self, receiver: str, down: Down | None) -> None:
        """Write down that a receiver takes nothing, or, with None, that it does."""
        if down is None:
            self._redis.hdel(_DOWN, receiver)
        else:
            self._redis.hset(_DOWN, receiver, msgspec.json.encode(down))

    def troubled(self) -> dict[str, str]:
        """Return the receivers that are disabled or take nothing, and why."""
        disabled: Any = self._redis.hgetall(_DISABLED)
        down: Any = self._redis.hgetall(_DOWN)
        found = {
            name_of(name): f"takes nothing: {known.reason}"
            for name, raw in down.items()
            if (known := _down_of(name, raw)) is not None
        }
        return found | {name_of(name): f"disabled: {name_of(why)}" for name, why in disabled.items()}

    def down(self, receiver: str) -> Down | None:
        """Return since when and why a receiver takes nothing; None when it does, or that cannot be read."""
        raw: Any = self._redis.hget(_DOWN, receiver)
        return None if raw is None else _down_of(receiver, raw)


def _down_of(receiver: bytes | str, raw: bytes) -> Down | None:
    try:
        return _down.decode(raw)
    except UNREADABLE as exc:
        log.error("since when %r takes nothing cannot be read: it is tried (%s)", receiver, exc)
        return None
