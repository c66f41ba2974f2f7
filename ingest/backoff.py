"""Waiting times that grow with each failure."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass
class Backoff:
    """Doubles from `first_s` to `max_s`; each wait is drawn from the upper half, so that many clients do not keep step.

    >>> waits = Backoff(first_s=1.0, max_s=8.0)
    >>> all(low <= waits.next_s() <= high for low, high in [(0.5, 1), (1, 2), (2, 4), (4, 8), (4, 8)])
    True
    """

    first_s: float
    max_s: float
    random: random.Random = field(default_factory=random.Random)
    failures: int = 0

    def next_s(self) -> float:
        """Return the seconds to wait after one more failure."""
        ceiling_s = min(self.max_s, self.first_s * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return ceiling_s * self.random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Start again from `first_s`: something worked."""
        self.failures = 0
