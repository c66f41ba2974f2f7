"""`newsquake stream` with a scorer that answers at once, and with traps that tests may set.

Everything but the network is the real command. Environment: `INSTANT_DELAY_S`, seconds that a call takes;
`INSTANT_TRAPS`, a folder: a text that holds TRAP-<name> springs the trap while the file <name> is there, and takes the
file away: `hang` never returns, `block` never returns and blocks the event loop too. A text that holds POISON always
raises; the file `broken` makes every call raise. A text that holds [negative], [neutral] or [positive] is scored so.
"""

from __future__ import annotations

import asyncio
import os
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import deploy.waiting
import model.scorer
from deploy.cli import main
from model.scorer import Scores

SENTIMENTS = ("negative", "neutral", "positive")
TOPICS = ("Earnings", "Macro", "Markets", "Mergers")
_FOREVER_S = 10_000
_loops: list[asyncio.AbstractEventLoop] = []
_until_reachable = deploy.waiting.until_reachable


class InstantScorer:
    """Probabilities by a hash of the text."""

    version = fingerprint = "instant"
    device = "none"
    sentiment_labels, topic_labels = SENTIMENTS, TOPICS

    def __init__(self) -> None:
        self._delay_s = float(os.environ.get("INSTANT_DELAY_S", "0"))
        self._traps = Path(os.environ.get("INSTANT_TRAPS", os.devnull))

    def score(self, texts: Sequence[str]) -> Scores:
        for text in texts:
            if "TRAP-hang" in text and self._springs("hang"):
                time.sleep(_FOREVER_S)
            if "TRAP-block" in text and self._springs("block"):
                _loops[0].call_soon_threadsafe(time.sleep, _FOREVER_S)
                time.sleep(_FOREVER_S)
            if "POISON" in text:
                raise ValueError("poison")
        if (self._traps / "broken").exists():
            raise RuntimeError("the model is broken")
        time.sleep(self._delay_s)
        hashes = np.array([zlib.crc32(text.encode()) for text in texts], dtype=np.int64)
        told = [next((n for n, label in enumerate(SENTIMENTS) if f"[{label}]" in text), -1) for text in texts]
        return Scores(_one_hot(np.where(np.array(told) >= 0, told, hashes % 7 % 3), 3), _one_hot(hashes // 7 % 4, 4))

    def _springs(self, name: str) -> bool:
        try:
            (self._traps / name).unlink()
        except OSError:
            return False
        return True


def _one_hot(which: np.ndarray, labels: int) -> np.ndarray:
    rows = np.full((len(which), labels), 0.1, np.float32)
    rows[np.arange(len(which)), which] = 1.0 - 0.1 * (labels - 1)
    return rows


async def _reached(*args: object) -> bool:
    _loops.append(asyncio.get_running_loop())
    return await _until_reachable(*args)  # type: ignore[arg-type]


if __name__ == "__main__":
    model.scorer.Scorer.load = lambda settings: InstantScorer()  # type: ignore[method-assign,assignment,return-value]
    deploy.waiting.until_reachable = _reached
    main()
