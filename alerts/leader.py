"""One of several alerting processes leads, by a lock in Redis that expires and a fencing token (`leader.lua`).

The lock says who should work; the token makes sure: every write of a leader carries it, and Redis refuses those of a
leader that is no longer one, which may have slept (a paused machine, a long collection) and know nothing of it.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from redis import Redis, RedisError

from alerts.metrics import AlertsMetrics
from alerts.store import FENCE
from alerts.stored import PREFIX

log = logging.getLogger(__name__)

LEADER = f"{PREFIX}leader"
TTL_S = 5.0
"""Seconds after which a leader that says nothing leads no more: so long, and a second, a takeover lasts at most."""


class Leader:
    """Stands for election and keeps the lead. `token` and `lost` may be asked from any thread."""

    def __init__(
        self,
        redis_url: str,
        metrics: AlertsMetrics,
        *,
        ttl_s: float = TTL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # Its own connection, with a short patience: a call that hangs must not hide that the lead is over.
        self._redis = Redis.from_url(redis_url, socket_timeout=ttl_s / 3, socket_connect_timeout=ttl_s / 3)
        self._script = self._redis.register_script(files("alerts").joinpath("leader.lua").read_text("utf-8"))
        self._metrics = metrics
        self._ttl_s = ttl_s
        self._clock = clock
        self._owner = uuid.uuid4().hex
        self._token = ""
        self.lost = threading.Event()
        """Set when it does not lead (any more)."""
        self.lost.set()
        metrics.leader.set(0)

    def token(self) -> str:
        """Return the token of the lead, for its writes: that of the last one when it is over, with which they fail."""
        return self._token

    def stand(self) -> bool:
        """Try to lead; return whether it does. The lead must then be kept by `keep`, in a thread.

        Raises:
            redis.RedisError: the server cannot answer.
        """
        token = self._call(self._ttl_s)
        if not token:
            return False
        self._token = token
        self.lost.clear()
        self._metrics.leader.set(1)
        log.info("this process leads alerting now (token %s)", token.partition(":")[0])
        return True

    def keep(self, stop: threading.Event) -> None:
        """Renew the lead until `stop` is set or it is lost; then give it up."""
        try:
            why = self._renew(stop)
        finally:
            self.lost.set()
            self._metrics.leader.set(0)
        if why:
            log.warning("this process leads alerting no more: %s", why)
            return
        try:
            self._call(0)
        except RedisError as exc:
            log.warning("the lead could not be given up (%s); it runs out in %.0f s", exc, self._ttl_s)

    def close(self) -> None:
        """Give up the connection."""
        self._redis.close()

    def _renew(self, stop: threading.Event) -> str:
        """Renew the lead until `stop` is set, or return why it is lost."""
        until = self._clock() + self._ttl_s
        why = ""
        while not why and not stop.wait(min(self._ttl_s / 5, max(0.0, until - self._clock()))):
            asked = self._clock()
            try:
                # One that is over is not to be renewed: who knows how long a call hangs.
                token = self._call(self._ttl_s) if asked < until else ""
            except RedisError as exc:
                if self._clock() >= until:
                    why = f"it could not be renewed in time ({exc})"
                continue
            if token != self._token:
                why = "another process has taken it, it had run out, or Redis was emptied"
            until = asked + self._ttl_s
        return why

    def _call(self, ttl_s: float) -> str:
        answer: Any = self._script(keys=[LEADER, FENCE], args=[self._owner, int(ttl_s * 1000)])
        return str(answer.decode())
