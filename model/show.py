"""Hide and show: a word's weight from the scores of the text without it and of the text with nothing else.

What a word does depends on the words beside it: with "fraud" hidden, "sues" still says the same. So the weight is the
mean of two effects: of hiding the word in the whole text, and of showing it where all the others are hidden. For
interactions of up to two words that is the Shapley value exactly (Shapley 1953: with them a word's effect grows by the
same step for each other word shown, so its mean over all orders is that of the first and the last). A text of n words
costs 2 n + 2 scores, all in one call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_LEAST = 1e-6  # probabilities nearer to 0 or 1 than this are rounding


class Part(NamedTuple):
    """A text that is read at once, the places of its words, and the column of the label to explain."""

    text: str
    words: Sequence[tuple[int, int]]
    label: int


def hide_and_show(
    score: Callable[[Sequence[str]], NDArray[np.float32]], parts: Sequence[Part], hidden: str
) -> list[NDArray[np.float64]]:
    """The weight of each word of each part, in bits of log odds.

    `score` gives probabilities (texts, labels); `hidden` stands for a hidden word, and may be empty.
    """
    versions = [version for part in parts for version in _versions(part, hidden)]
    if not versions:
        return []
    probabilities = score(versions)
    weights, at = [], 0
    for part in parts:
        n = len(part.words)
        odds = log_odds(probabilities[at : at + 2 * n + 2, part.label])
        whole, nothing, without, alone = odds[0], odds[1], odds[2 : n + 2], odds[n + 2 :]
        weights.append(((whole - without) + (alone - nothing)) / 2)
        at += 2 * n + 2
    return weights


def log_odds(probability: NDArray[np.float32]) -> NDArray[np.float64]:
    """In bits: 0 is even, 1 two to one."""
    kept = np.clip(probability.astype(np.float64), _LEAST, 1 - _LEAST)
    return np.log2(kept / (1 - kept))


def _versions(part: Part, hidden: str) -> list[str]:
    n = len(part.words)
    without = [_version(part, [i != j for j in range(n)], hidden) for i in range(n)]
    alone = [_version(part, [i == j for j in range(n)], hidden) for i in range(n)]
    return [part.text, _version(part, [False] * n, hidden), *without, *alone]


def _version(part: Part, shown: Sequence[bool], hidden: str) -> str:
    pieces, at = [], 0
    for (start, stop), keep in zip(part.words, shown, strict=True):
        pieces += [part.text[at:start], part.text[start:stop] if keep else hidden]
        at = stop
    return "".join([*pieces, part.text[at:]])
