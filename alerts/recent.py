"""The negative stories of the last two days, by term: what a theme is counted in and what a copy is recognised by.

Bounded: when `capacity` stories do not reach back two days, everything is measured in shorter spans instead, in
proportion (the window is half of what is held, the guard a quarter), and the counts of the market with it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence

import msgspec

from alerts.windows import WindowItem

SPAN_MIN = 2_880
"""Minutes for which stories are held."""
_COPY_OVERLAP = 0.6
_LOOKED_AT = 200


class Entry(msgspec.Struct):
    """A story; `copies` came after it."""

    minute: int
    item: WindowItem
    terms: tuple[str, ...]
    copies: int = 0


class RecentState(msgspec.Struct, frozen=True):
    """All that is held."""

    minute: int
    dropped_minute: int
    oldest: int
    window_from: int
    learn_from: int
    entries: list[Entry]
    within: list[tuple[int, int, int]]
    waiting: list[tuple[int, int, int]]


class Recent:
    """Stories numbered in the order of arrival, and the market's items and negatives by the minute."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: dict[int, Entry] = {}
        self._numbers: dict[str, list[int]] = {}  # by term, rising
        self._minute, self._dropped_minute = 0, -SPAN_MIN
        self._oldest = self._next = self._window_from = self._learn_from = 0
        self._within: deque[tuple[int, int, int]] = deque()  # minute, items and negatives of the market: in the window
        self._waiting: deque[tuple[int, int, int]] = deque()  # before the window, not yet learnt from
        self.items = self.negatives = 0
        """The market's, in the window."""

    @property
    def window_min(self) -> int:
        """Minutes in which themes are counted: 1,440, or less when so many stories arrive that they are not held."""
        return self._span() // 2

    @property
    def stories(self) -> int:
        """Stories in the window."""
        return self._next - self._window_from

    def _span(self) -> int:
        return max(2, min(SPAN_MIN, self._minute - self._dropped_minute))

    def advance(self, minute: int, items: int, negatives: int) -> tuple[list[Entry], int, int]:
        """Go on to `minute`, in which the market had so many; return what the baseline now learns.

        These are the stories that the guard has ended for, and the market's items and negatives likewise.
        """
        self._minute = minute
        span = self._span()
        starts, learns = minute - span // 2, minute - span * 3 // 4
        if items:
            self._within.append((minute, items, negatives))
            self.items += items
            self.negatives += negatives
        while self._within and self._within[0][0] <= starts:
            bucket = self._within.popleft()
            self._waiting.append(bucket)
            self.items -= bucket[1]
            self.negatives -= bucket[2]
        learnt_items = learnt_negatives = 0
        while self._waiting and self._waiting[0][0] <= learns:
            _, more, bad = self._waiting.popleft()
            learnt_items += more
            learnt_negatives += bad
        while self._window_from < self._next and self._entries[self._window_from].minute <= starts:
            self._window_from += 1
        learnt = []
        while self._learn_from < self._window_from and self._entries[self._learn_from].minute <= learns:
            learnt.append(self._entries[self._learn_from])
            self._learn_from += 1
        while self._oldest < self._learn_from and (
            self._entries[self._oldest].minute <= minute - span or len(self._entries) > self._capacity
        ):
            self._drop()
        return learnt, learnt_items, learnt_negatives

    def rests_until(self) -> int:
        """Return the last minute up to which `advance` changes nothing but the minute, while no item arrives."""
        if self._span() < SPAN_MIN:
            return self._minute  # spans change with each minute
        window, learns = SPAN_MIN // 2, SPAN_MIN * 3 // 4
        due = [queue[0][0] + after for queue, after in ((self._within, window), (self._waiting, learns)) if queue]
        marks = (self._window_from, self._next, window), (self._learn_from, self._window_from, learns)
        for number, upto, after in (*marks, (self._oldest, self._learn_from, SPAN_MIN)):
            if number < upto:
                due.append(self._entries[number].minute + after)
        return min(due, default=self._minute + SPAN_MIN) - 1

    def rest(self, minute: int) -> None:
        """Go on to `minute`, at most `rests_until`."""
        self._minute = minute

    def add(self, item: WindowItem, terms: tuple[str, ...]) -> bool:
        """Hold a story of this minute; False when it is a copy of one that is held, which then counts one copy more."""
        original = self._original(terms)
        if original is not None:
            original.copies += 1
            return False
        if len(self._entries) >= self._capacity:
            # From the next minute on, spans are measured from here.
            self._dropped_minute = max(
                self._dropped_minute, self._entries[self._oldest + len(self._entries) // 8].minute
            )
        self._entries[self._next] = Entry(self._minute, item, terms)
        for term in terms:
            self._numbers.setdefault(term, []).append(self._next)
        self._next += 1
        return True

    def count(self, term: str) -> int:
        """Return how many stories of the window have the term."""
        numbers = self._numbers.get(term)
        return 0 if numbers is None else len(numbers) - bisect_left(numbers, self._window_from)

    def having(self, term: str) -> list[Entry]:
        """Return the stories of the window that have the term."""
        return list(self.latest(term))[::-1]

    def latest(self, term: str) -> Iterator[Entry]:
        """Yield the stories of the window that have the term, the latest first."""
        numbers = self._numbers.get(term, ())
        for at in range(len(numbers) - 1, bisect_left(numbers, self._window_from) - 1, -1):
            yield self._entries[numbers[at]]

    def state(self) -> RecentState:
        """Return all that is held."""
        return RecentState(
            minute=self._minute,
            dropped_minute=self._dropped_minute,
            oldest=self._oldest,
            window_from=self._window_from,
            learn_from=self._learn_from,
            entries=list(self._entries.values()),
            within=list(self._within),
            waiting=list(self._waiting),
        )

    def restore(self, state: RecentState) -> None:
        """Take over what `state` returned."""
        self._minute, self._dropped_minute = state.minute, state.dropped_minute
        self._oldest, self._window_from, self._learn_from = state.oldest, state.window_from, state.learn_from
        self._entries = dict(enumerate(state.entries, state.oldest))
        self._next = state.oldest + len(state.entries)
        self._numbers = {}
        for number, entry in self._entries.items():
            for term in entry.terms:
                self._numbers.setdefault(term, []).append(number)
        self._within, self._waiting = deque(state.within), deque(state.waiting)
        self.items = sum(items for _, items, _ in self._within)
        self.negatives = sum(negatives for _, _, negatives in self._within)

    def _original(self, terms: tuple[str, ...]) -> Entry | None:
        """The story that these terms overlap with by over 60 % (Jaccard), the latest of several.

        A story with that overlap holds at least one of the rarest 40 % of the terms (prefix filtering: Chaudhuri, Ganti
        and Kaushik, ICDE 2006), so that only their stories are looked at, the latest 200 of each.
        """
        lists = sorted((self._numbers.get(term, ()) for term in terms), key=len)
        rarest: Sequence[Sequence[int]] = lists[: int(len(terms) * (1 - _COPY_OVERLAP)) + 1]
        shared = {number for numbers in rarest for number in numbers[-_LOOKED_AT:]}
        if not shared:
            return None
        own = set(terms)
        for number in sorted(shared, reverse=True):
            other = self._entries[number].terms
            smaller, larger = sorted((len(own), len(other)))
            if smaller > _COPY_OVERLAP * larger:
                both = sum(term in own for term in other)
                if both > _COPY_OVERLAP * (smaller + larger - both):
                    return self._entries[number]
        return None

    def _drop(self) -> None:
        for term in self._entries.pop(self._oldest).terms:
            numbers = self._numbers[term]
            del numbers[0]
            if not numbers:
                del self._numbers[term]
        self._oldest += 1
