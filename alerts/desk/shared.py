"""Parts of pages that are alike for all who look, made once for each state of things and not once a viewer.

When an alert appears every page is loaded again at the same moment: the first makes the part, the others wait for it.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

_KEPT, _LIFE_S = 64, 5.0
_Part = TypeVar("_Part")


class Shared:
    """Parts by key; a key says all that its part depends on, but for the time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._parts: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], _Part]) -> _Part:
        """Return the part of a key: what was made in the last 5 seconds, else what `make` returns."""
        with self._lock:  # while one makes it, others that want the same have nothing better to do than wait
            made = self._parts.get(key)
            if made is not None and self._clock() - made[0] < _LIFE_S:
                found: _Part = made[1]
                return found
            part = make()
            self._parts[key] = self._clock(), part
            self._parts.move_to_end(key)
            while len(self._parts) > _KEPT:
                self._parts.popitem(last=False)
            return part
