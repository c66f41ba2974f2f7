"""The outbox: deliveries that wait in Redis until the receiver has taken them or they are given up.

A delivery is stored together with its alert (`alerts.store`) and leaves the outbox after the receiver's answer, so a
crash at any moment repeats it at most: with the same id, by which receivers know it again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from alerts.alert import Alert, Event
from alerts.notification import Notification, encode_notification, notification_id

if TYPE_CHECKING:
    from redis import Redis

_PREFIX = "nq:{alerts}:"
_DEAD, _DISABLED = f"{_PREFIX}dead", f"{_PREFIX}disabled"
_DEAD_LENGTH = 10_000


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One notification on its way. `id` is the notification's, by which receivers know it again.

    `alert` is the alert it is about, or the key of the group; `body` is the `Notification` as JSON, rendered when it is
    sent. Those named in `after` must be gone before.
    """

    id: str
    receiver: str
    event: Event
    alert: str
    body: str
    created_s: float
    attempts: int = 0
    after: tuple[str, ...] = ()
    reason: str = ""


_delivery = msgspec.json.Decoder(Delivery)


def due_key(receiver: str) -> str:
    """Return the key of the queue of one receiver: delivery keys by Unix time of the next attempt."""
    return f"{_PREFIX}due:{receiver}"


def delivery_key(delivery_id: str) -> str:
    """Return the key under which a delivery waits."""
    return f"{_PREFIX}delivery:{delivery_id}"


def delivery_of(notification: Notification, now_s: float, *, after: Iterable[str] = ()) -> Delivery:
    """Return the delivery that brings a notification, made at `now_s` (Unix), once those in `after` are gone."""
    return Delivery(
        id=notification.id,
        receiver=notification.receiver,
        event=notification.event,
        alert=notification.group or notification.alerts[0].id,
        body=encode_notification(notification).decode(),
        created_s=now_s,
        after=tuple(after),
    )


def deliveries(event: Event, alert: Alert, receivers: list[str], now_s: float) -> list[Delivery]:
    """Return the deliveries of a transition to these receivers; ids are the same whenever it is made again."""
    found = []
    for receiver in receivers:
        told = Notification(
            id=notification_id(alert.id, event, receiver),
            receiver=receiver,
            event=event,
            alerts=(alert,),
            at=alert.updated_at,
        )
        first = notification_id(alert.id, "alert.firing", receiver)
        found.append(delivery_of(told, now_s, after=[first] if event == "alert.resolved" else []))
    return found


class Outbox:
    """Reads and moves deliveries. Every method raises `redis.RedisError` when the server cannot answer."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def next_due(self, endpoint: str, now_s: float) -> Delivery | None:
        """Return the delivery to try now; one that waits for another is put behind it. None when none is due."""
        while True:
            found: Any = self._redis.zrange(due_key(endpoint), "-inf", repr(now_s), byscore=True, offset=0, num=1)
            if not found:
                return None
            raw: Any = self._redis.get(found[0])
            if raw is None:  # expired or removed by hand
                self._redis.zrem(due_key(endpoint), found[0])
                continue
            delivery = _delivery.decode(raw)
            before = [self._redis.zscore(due_key(endpoint), delivery_key(other)) for other in delivery.after]
            waiting: list[Any] = [score for score in before if score is not None]
            if not waiting:
                return delivery
            self._redis.zadd(due_key(endpoint), {delivery_key(delivery.id): max([now_s, *map(float, waiting)]) + 0.001})

    def done(self, delivery: Delivery) -> None:
        """The receiver has it."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.zrem(due_key(delivery.receiver), delivery_key(delivery.id))
            pipe.delete(delivery_key(delivery.id))
            pipe.execute()

    def retry(self, delivery: Delivery, due_s: float) -> None:
        """Keep the delivery, with its new count of attempts, for `due_s` (Unix)."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(delivery_key(delivery.id), msgspec.json.encode(delivery))
            pipe.zadd(due_key(delivery.receiver), {delivery_key(delivery.id): due_s})
            pipe.execute()

    def give_up(self, delivery: Delivery) -> None:
        """Move the delivery, with its reason, to the dead list (the last 10,000 are kept)."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.zrem(due_key(delivery.receiver), delivery_key(delivery.id))
            pipe.delete(delivery_key(delivery.id))
            pipe.lpush(_DEAD, msgspec.json.encode(delivery))
            pipe.ltrim(_DEAD, 0, _DEAD_LENGTH - 1)
            pipe.execute()

    def dead(self, count: int = 100) -> list[Delivery]:
        """Return the last `count` deliveries given up, the newest first."""
        found: Any = self._redis.lrange(_DEAD, 0, count - 1)
        return [_delivery.decode(raw) for raw in found]

    def dead_count(self) -> int:
        """Return the length of the dead list."""
        answer: Any = self._redis.llen(_DEAD)
        return int(answer)

    def revive(self, endpoint: str) -> int:
        """Queue the dead deliveries of an endpoint again, with all their attempts before them; return how many."""
        mine = [delivery for delivery in self.dead(_DEAD_LENGTH) if delivery.receiver == endpoint]
        for delivery in mine:
            fresh = msgspec.structs.replace(delivery, attempts=0, reason="")
            with self._redis.pipeline(transaction=True) as pipe:
                pipe.lrem(_DEAD, 1, msgspec.json.encode(delivery).decode())
                pipe.set(delivery_key(delivery.id), msgspec.json.encode(fresh))
                pipe.zadd(due_key(endpoint), {delivery_key(delivery.id): delivery.created_s})
                pipe.execute()
        return len(mine)

    def drop_unknown(self, endpoints: list[str]) -> int:
        """Give up what waits for endpoints that are configured no more; return how many deliveries that were."""
        dropped = 0
        for key in list(self._redis.scan_iter(match=due_key("*").replace("{", "\\{"), count=1_000)):
            endpoint = key.decode().removeprefix(due_key(""))
            while endpoint not in endpoints and (delivery := self.next_due(endpoint, float("inf"))):
                self.give_up(msgspec.structs.replace(delivery, reason="its endpoint is configured no more"))
                dropped += 1
        return dropped

    def waiting(self, endpoint: str) -> tuple[int, float | None]:
        """Return how many deliveries wait for an endpoint, and when the first is due (Unix seconds)."""
        first: Any = self._redis.zrange(due_key(endpoint), 0, 0, withscores=True)
        count: Any = self._redis.zcard(due_key(endpoint))
        return int(count), float(first[0][1]) if first else None

    def disable(self, endpoint: str, reason: str) -> None:
        """Send nothing to this endpoint until it is enabled again."""
        self._redis.hset(_DISABLED, endpoint, reason)

    def enable(self, endpoint: str) -> None:
        """Send to this endpoint again."""
        self._redis.hdel(_DISABLED, endpoint)

    def disabled(self, endpoint: str) -> str | None:
        """Return why an endpoint is disabled; None when it is not."""
        raw: Any = self._redis.hget(_DISABLED, endpoint)
        return None if raw is None else str(raw.decode())
