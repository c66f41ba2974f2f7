"""Positions of the sources in Redis: where each goes on after a restart."""

from __future__ import annotations

import logging
from typing import cast

import msgspec
import redis

logger = logging.getLogger(__name__)

KEY_PREFIX = "nq:ingest:position:"


class PositionError(Exception):
    """Redis could not be read or written; trying again may work."""


class Positions:
    """One JSON value a source, `nq:ingest:position:<source>`. Safe to share between threads.

    A position is moved only after Kafka acknowledged what lies before it, so a crash in between brings some documents
    again, with the same ids.
    """

    def __init__(self, redis_url: str, *, timeout_s: float = 5.0) -> None:
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, health_check_interval=30
        )

    def ping(self) -> None:
        """Raise `PositionError` unless Redis answers."""
        try:
            self._redis.ping()
        except redis.RedisError as exc:
            raise PositionError(f"Redis does not answer: {exc}") from exc

    def load(self, source: str) -> object | None:
        """Return the stored position of `source`, or None when there is none (or none that can be read)."""
        try:
            value = cast("bytes | None", self._redis.get(KEY_PREFIX + source))
        except redis.RedisError as exc:
            raise PositionError(f"could not read the position of {source}: {exc}") from exc
        if value is None:
            return None
        try:
            return cast("object", msgspec.json.decode(value))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            logger.error(
                "The position of %s in Redis (%s%s) is not JSON (%s); the source starts afresh, "
                "items that come again keep their ids.",
                source,
                KEY_PREFIX,
                source,
                exc,
            )
            return None

    def save(self, source: str, position: object) -> None:
        """Store `position` (anything JSON can hold)."""
        try:
            self._redis.set(KEY_PREFIX + source, msgspec.json.encode(position))
        except redis.RedisError as exc:
            raise PositionError(f"could not store the position of {source}: {exc}") from exc

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()
