"""Whether any of the feeds can be reached from here."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import httpx

_AT_ONCE = 16


@dataclass(frozen=True)
class FeedCheck:
    """One feed's answer; `problem` is None when it was reached."""

    name: str
    url: str
    problem: str | None


async def check_feeds(feeds: Sequence[tuple[str, str]], *, user_agent: str, timeout_s: float) -> list[FeedCheck]:
    """Asks all feeds (name, url) at once; whatever did not answer when `timeout_s` is over counts as not reached."""
    return [check async for check in _answers(feeds, user_agent, timeout_s)]


async def any_feed_reached(feeds: Sequence[tuple[str, str]], *, user_agent: str, timeout_s: float) -> bool:
    """True as soon as one feed answers; False when none did within `timeout_s`."""
    async for check in _answers(feeds, user_agent, timeout_s):
        if check.problem is None:
            return True
    return False


async def _answers(feeds: Sequence[tuple[str, str]], user_agent: str, timeout_s: float) -> AsyncIterator[FeedCheck]:
    deadline = time.monotonic() + timeout_s
    gate = asyncio.Semaphore(_AT_ONCE)
    # A redirect is an answer, and where it leads is not asked: a feed must not lead into a private network.
    async with httpx.AsyncClient(
        headers={"User-Agent": user_agent}, timeout=timeout_s, follow_redirects=False
    ) as client:

        async def ask(name: str, url: str) -> FeedCheck:
            try:
                async with asyncio.timeout(deadline - time.monotonic()), gate, client.stream("GET", url) as answer:
                    # Headers are enough: the body may be large, or never end.
                    problem = None if answer.status_code < 400 else f"HTTP {answer.status_code}"
            except TimeoutError:
                problem = f"no answer within {timeout_s:.0f} s"
            except Exception as exc:  # noqa: BLE001 - an odd address fails in odd ways; each means "not reached"
                problem = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
            return FeedCheck(name, url, problem)

        tasks = [asyncio.create_task(ask(name, url)) for name, url in feeds]
        try:
            for done in asyncio.as_completed(tasks):
                yield await done
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
