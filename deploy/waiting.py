"""Waiting for the servers at the start: Faust and kafka-python give up when the broker is not there yet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from redis.asyncio import Redis
from redis.exceptions import RedisError

log = logging.getLogger(__name__)


async def until_reachable(
    bootstrap_servers: str, options: Mapping[str, Any], group: str, redis: Redis, stop: asyncio.Event
) -> bool:
    """Return True once Kafka and Redis answer, False when `stop` was set before; says what it waits for.

    Kafka includes the group's coordinator: a new cluster first has to make the topic that keeps the offsets.
    """
    pause_s = 0.5
    while not stop.is_set():
        try:
            await redis.ping()
            admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, **options)
            try:
                await admin.start()
                await admin.find_coordinator(group)
            finally:
                await admin.close()
        except (RedisError, KafkaError, OSError) as exc:
            level = logging.INFO if pause_s < 2 else logging.WARNING  # a new cluster needs a moment
            log.log(level, "waiting for Kafka at %s and Redis, next try in %.1f s: %s", bootstrap_servers, pause_s, exc)
        else:
            return True
        try:
            await asyncio.wait_for(stop.wait(), pause_s)
        except TimeoutError:
            pause_s = min(pause_s * 2, 5.0)
    return False
