"""The Redis that a command speaks to, and its outbox."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from deploy import servers
from deploy.commands._options import fail
from deploy.settings import Settings, SettingsError

if TYPE_CHECKING:
    from redis import Redis

    from alerts.outbox import Outbox


@contextmanager
def redis_of(settings: Settings) -> Iterator[Redis]:
    """Give a client; a Redis that cannot answer ends the process with a message and exit code 2."""
    from redis import Redis, RedisError

    try:
        url = servers.redis_of(settings)
    except SettingsError as exc:
        fail(str(exc))
    try:
        with Redis.from_url(url, socket_timeout=10, socket_connect_timeout=5) as client:
            yield client
    except RedisError as exc:
        fail(f"Redis cannot be asked: {exc}")


@contextmanager
def outbox_of(settings: Settings) -> Iterator[Outbox]:
    """Give the outbox, as `redis_of` gives a client."""
    from alerts.outbox import Outbox

    with redis_of(settings) as client:
        yield Outbox(client)
