"""How often each term was counted, with more terms than memory: the heavy ones kept, the rest bounded from above.

Space-Saving (Metwally, Agrawal and El Abbadi, Efficient computation of frequent and top-k elements in data streams,
ICDT 2005), pruned in batches as summaries are merged (Agarwal et al., Mergeable summaries, PODS 2012), with forward
decay (Cormode et al., Forward decay, ICDE 2009): later counts weigh more, so that old ones need not be touched.
No kept library for Python does this with decay and a state that can be saved.
"""

from __future__ import annotations

import math

import msgspec

_RESCALE_AT = 60.0  # e^60: far from what a double cannot hold


class MemoryState(msgspec.Struct, frozen=True):
    """All that a memory holds."""

    landmark: int
    minute: int
    floor: float
    forgotten: int
    counts: dict[str, float]


class Memory:
    """Counts of terms that fade with a time constant of `fade_min` minutes; at most 5/4 of `capacity` terms.

    What `count` returns is never below the true (faded) count, and above it by `floor` at most: what the heaviest of
    the forgotten terms can have had.

    >>> memory = Memory(capacity=2, fade_min=1_000)
    >>> for term in ["svb", "svb", "svb", "ftx", "ftx", "dam", "run"]: memory.add(term)
    >>> memory.count("svb"), memory.count("dam"), memory.floor, memory.forgotten
    (3.0, 2.0, 2.0, 2)
    """

    def __init__(self, capacity: int, fade_min: float) -> None:
        self._capacity = capacity
        self._fade_min = fade_min
        self._counts: dict[str, float] = {}
        self._landmark = self._minute = 0
        self._floor = 0.0
        self._weight = 1.0
        self.forgotten = 0
        """Terms dropped so far for want of room."""

    @property
    def floor(self) -> float:
        """The most that a term may have had that is not (or no longer) known."""
        return self._floor / self._weight

    def __len__(self) -> int:
        return len(self._counts)

    def advance(self, minute: int) -> None:
        """Let time pass up to `minute`."""
        if not self._counts and not self._floor:
            self._landmark = minute
        self._minute = minute
        exponent = (minute - self._landmark) / self._fade_min
        if exponent > _RESCALE_AT:
            scale = math.exp(-exponent)
            faded = {term: count * scale for term, count in self._counts.items()}
            self._counts = {term: count for term, count in faded.items() if count > 0}
            self._floor *= scale
            self._landmark, exponent = minute, 0.0
        self._weight = math.exp(exponent)

    def rests_until(self) -> int:
        """Return the last minute to which `advance` comes at once to the bit as it does minute by minute."""
        empty = not self._counts and not self._floor  # the landmark moves along
        return (self._minute if empty else self._landmark) + int(_RESCALE_AT * self._fade_min)

    def add(self, term: str) -> None:
        """Count a term once, now."""
        self._counts[term] = self._counts.get(term, self._floor) + self._weight
        if len(self._counts) > self._capacity * 5 // 4:
            self._prune()

    def count(self, term: str) -> float:
        """Return at most how often the term was counted, faded to now."""
        return self._counts.get(term, self._floor) / self._weight

    def state(self) -> MemoryState:
        """Return all that is held."""
        return MemoryState(self._landmark, self._minute, self._floor, self.forgotten, dict(self._counts))

    def restore(self, state: MemoryState) -> None:
        """Take over what `state` returned."""
        self._landmark, self._floor, self.forgotten = state.landmark, state.floor, state.forgotten
        self._counts = dict(state.counts)
        self._minute = state.minute
        self._weight = math.exp((state.minute - state.landmark) / self._fade_min)

    def _prune(self) -> None:
        ranked = sorted(self._counts.items(), key=lambda entry: entry[1])
        dropped = ranked[: len(ranked) - self._capacity]
        self._floor = max(self._floor, dropped[-1][1])
        self.forgotten += len(dropped)
        for term, _ in dropped:
            del self._counts[term]
