"""The buffer between Faust and the scorer: order, bounds, back-pressure."""

from __future__ import annotations

import asyncio
import doctest

from hypothesis import given
from hypothesis import strategies as st

from stream import backlog
from stream.backlog import Backlog


def test_examples() -> None:
    assert doctest.testmod(backlog).failed == 0


@given(
    limit=st.integers(1, 8),
    pauses=st.lists(st.booleans(), min_size=1, max_size=60),
    takes=st.lists(st.tuples(st.integers(1, 10), st.booleans()), min_size=1, max_size=10),
)
def test_every_item_comes_once_in_order_and_no_more_wait_than_the_limit(
    limit: int, pauses: list[bool], takes: list[tuple[int, bool]]
) -> None:
    async def scenario() -> list[int]:
        waiting = Backlog[int](limit)

        async def feed() -> None:
            for number, pause in enumerate(pauses):
                await waiting.put(number)
                assert len(waiting) <= limit
                if pause:
                    await asyncio.sleep(0)

        feeder = asyncio.create_task(feed())
        taken: list[int] = []
        turn = 0
        while len(taken) < len(pauses):
            most, pause = takes[turn % len(takes)]
            part = await waiting.take(most)
            assert 1 <= len(part) <= most
            taken += part
            turn += 1
            if pause:
                await asyncio.sleep(0)
        await feeder
        return taken

    assert asyncio.run(scenario()) == list(range(len(pauses)))


async def test_a_full_buffer_makes_the_reader_wait_until_something_is_taken() -> None:
    waiting = Backlog[int](2)
    await waiting.put(0)
    await waiting.put(1)
    third = asyncio.create_task(waiting.put(2))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not third.done()
    assert await waiting.take(1) == [0]
    await third
    assert await waiting.take(5) == [1, 2]
