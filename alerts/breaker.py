"""Three guards of a receiver: what it is spared while it is down, in a minute, and at once.

Not `pybreaker` and `limits`: both ask the system's clock, and the first has no say in which call is the probe.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable

import msgspec

_FAILURES = 3
_FIRST_S, _LONGEST_S = 30.0, 300.0
_JITTER = 0.8, 1.2
_MINUTE_S = 60.0
_QUICK_S, _SLOW_S = 2.0, 5.0
_WARY_S = 600.0


class Down(msgspec.Struct, frozen=True, kw_only=True):
    """A receiver that takes nothing: since when, the last reason, and when it is tried next (Unix seconds)."""

    since_s: float
    reason: str
    wait_s: float
    probe_s: float


class Breaker:
    """Opens after three failures in a row; then lets one attempt through after 30 s, growing to 5 min, with jitter."""

    def __init__(self, down: Down | None = None) -> None:
        self.down = down
        self._failures: list[float] = []

    def allows(self, now_s: float) -> bool:
        """Say whether an attempt may be made now."""
        # A probe further away than any wait can be was set by a clock that has stepped back since.
        return self.down is None or not now_s < self.down.probe_s <= now_s + _LONGEST_S * _JITTER[1]

    def succeeded(self) -> bool:
        """Take note that the receiver took one; return whether it was down."""
        was_down, self.down = self.down is not None, None
        self._failures.clear()
        return was_down

    def failed(self, now_s: float, reason: str) -> bool:
        """Take note of a failure; return whether the receiver is down."""
        self._failures.append(now_s)
        if self.down is None and len(self._failures) < _FAILURES:
            return False
        wait_s = min(self.down.wait_s * 2, _LONGEST_S) if self.down else _FIRST_S
        self.down = Down(
            since_s=self.down.since_s if self.down else self._failures[0],
            reason=reason,
            wait_s=wait_s,
            probe_s=now_s + wait_s * random.uniform(*_JITTER),  # noqa: S311
        )
        self._failures.clear()
        return True


class Pace:
    """Messages a minute, at most. `sent` are the times of those that went out before, in order (Unix seconds)."""

    def __init__(self, per_minute: int, sent: Iterable[float] = ()) -> None:
        self._per_minute = per_minute
        self._sent = deque(sent)

    def room(self, now_s: float) -> int:
        """Return how many messages may go out now."""
        for at in range(len(self._sent) - 1, -1, -1):
            if self._sent[at] <= now_s:
                break
            self._sent[at] = now_s  # a clock stepped back
        while self._sent and self._sent[0] <= now_s - _MINUTE_S:
            self._sent.popleft()
        return self._per_minute - len(self._sent)

    def sent(self, now_s: float, count: int = 1) -> None:
        """Take note of messages."""
        self._sent.extend([now_s] * count)


class Lanes:
    """How many messages may be on their way at once: one more for each quick answer that comes while all are in use.

    A slow answer halves them; a bad one leaves one, and half as many at most for ten minutes. So `most` go to a
    receiver that is merely far away, and one that takes one after the other is not sent more than it answers in time.
    """

    def __init__(self, most: int) -> None:
        self.count = 1
        self._most = self._for_now = most
        self._wary_until_s = 0.0

    def answered(self, now_s: float, after_s: float, *, well: bool, all_used: bool) -> None:
        """Take note of an answer, or that none came, at `now_s` (of a steady clock)."""
        if now_s >= self._wary_until_s:
            self._for_now = self._most
        if not well:
            if self.count > 1:
                self._for_now, self._wary_until_s = self.count // 2, now_s + _WARY_S
            self.count = 1
        elif after_s > _SLOW_S:
            self.count = max(1, self.count // 2)
        elif all_used and after_s < _QUICK_S:
            self.count = min(self.count + 1, self._for_now)
