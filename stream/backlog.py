"""A bounded buffer between one reader and one taker that always takes all that waits."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Backlog(Generic[T]):
    """`asyncio.Queue` for batches: one wake-up a batch instead of one an item.

    >>> async def example():
    ...     backlog = Backlog(10)
    ...     for number in range(3):
    ...         await backlog.put(number)
    ...     return await backlog.take(2), await backlog.take(2)
    >>> asyncio.run(example())
    ([0, 1], [2])
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[T] = deque()
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def __len__(self) -> int:
        return len(self._waiting)

    async def put(self, item: T) -> None:
        """Add an item; waits while the buffer is full (back-pressure)."""
        while len(self._waiting) >= self._limit:
            self._room.clear()
            await self._room.wait()
        self._waiting.append(item)
        self._filled.set()

    async def take(self, most: int) -> list[T]:
        """Return what waits, at least one item and at most `most`, oldest first."""
        while not self._waiting:
            self._filled.clear()
            await self._filled.wait()
        taken = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        self._room.set()
        return taken
