"""The outbox of the Redis that a command speaks to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from deploy.commands._options import fail
from deploy.servers import servers
from deploy.settings import Settings

if TYPE_CHECKING:
    from alerts.outbox import Outbox


@contextmanager
def outbox_of(settings: Settings) -> Iterator[Outbox]:
    """Give the outbox; a Redis that cannot answer ends the process with a message and exit code 2."""
    from redis import Redis, RedisError

    from alerts.outbox import Outbox

    url = settings.redis.url.get_secret_value() if settings.redis.url else servers(settings).redis_url
    try:
        with Redis.from_url(url, socket_timeout=10, socket_connect_timeout=5) as client:
            yield Outbox(client)
    except RedisError as exc:
        fail(f"Redis cannot be asked: {exc}")
