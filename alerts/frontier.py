"""How far time is complete: the last minute of which every partition has been read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from alerts.buckets import Progress
from alerts.settings import AlertsSettings

BEHIND_MIN = 5
"""Minutes that a partition, or the judging, may lag before alerting is not ready."""
_SETTLE_S = 3.0  # with the event clock: what a producer may hold back after it sent newer items to other partitions
_AHEAD_S = 60.0  # by which machines' times may differ, as in windows.lua


class Reached(msgspec.Struct, frozen=True):
    """The time (Unix s), the last complete minute (None: unknown), and what is waited for."""

    now_s: float
    minute: int | None
    waiting: list[str]


class Frontier:
    """A partition is complete up to its clock, or, when its worker had nothing left to read, up to that time.

    With the event clock "that time" is the largest clock known a little before.
    """

    def __init__(self, settings: AlertsSettings, clock: Callable[[], float]) -> None:
        """`clock` returns Unix seconds."""
        self._settings = settings
        self._clock = clock
        self._seen_clocks: deque[tuple[float, float]] = deque(maxlen=1_000)

    def reached(self, progress: Sequence[Progress]) -> Reached:
        """Return how far time is complete, given where each partition stands now."""
        wall_s = self._clock()
        # An item from the future, let in by a server whose time was wrong, does not move time on.
        clocks = [(p.clock_ms or 0) / 1000 for p in progress]
        clocks = [clock if clock <= wall_s + _AHEAD_S else 0.0 for clock in clocks]
        event_s = min(max(clocks, default=0.0), wall_s)
        by_event = self._settings.clock == "event"
        if not self._seen_clocks or event_s > self._seen_clocks[-1][1]:
            self._seen_clocks.append((wall_s, event_s))
        waiting = []
        now_s = event_s if by_event else wall_s
        reached_s = now_s
        for number, partition in enumerate(progress):
            if partition.rebuilding:
                waiting.append(f"partition {number}: its windows are being rebuilt")
            idle_s = (partition.idle_at_ms or 0) / 1000
            if by_event:
                idle_s = max((c for seen_s, c in self._seen_clocks if seen_s <= idle_s - _SETTLE_S), default=0.0)
            complete_s = max(clocks[number], idle_s)
            if not by_event and wall_s - complete_s > 60 * BEHIND_MIN:
                waiting.append(f"partition {number}: no worker has read it to its end for over {BEHIND_MIN} min")
            reached_s = min(reached_s, complete_s)
        if reached_s <= 0 or any(p.rebuilding for p in progress):
            if not waiting:
                waiting.append("no item was counted yet" if by_event else "no worker has reported progress yet")
            return Reached(wall_s, None, waiting)
        return Reached(now_s, int((reached_s - self._settings.grace_s) // 60) - 1, waiting)
