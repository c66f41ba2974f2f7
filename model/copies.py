"""Near copies between two sets of texts: a test row that stands in the training rows tests memory."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from model.data import Labelled

NEAR = 0.8  # token Jaccard from which two texts are near copies
_WORD = re.compile(r"\w+")


def near_copies(texts: Sequence[str], of: Sequence[str], at_least: float = NEAR) -> list[int]:
    """Places of the texts with a near copy in `of`: token Jaccard of `at_least` or more.

    Exact, by prefix filtering: sorted by rarity, two such sets share one of their first few tokens (Chaudhuri et al.
    2006, A Primitive Operator for Similarity Joins).

    >>> near_copies(["Acme profit up again", "Borel is sued"], ["acme profit up, again!"])
    [0]
    """
    ours, theirs = [_tokens(t) for t in texts], [_tokens(t) for t in of]
    counts: dict[str, int] = defaultdict(int)
    for tokens in (*ours, *theirs):
        for token in tokens:
            counts[token] += 1
    index: dict[str, list[int]] = defaultdict(list)
    for place, tokens in enumerate(theirs):
        for token in _prefix(tokens, counts, at_least):
            index[token].append(place)
    found = []
    for place, tokens in enumerate(ours):
        candidates = {other for token in _prefix(tokens, counts, at_least) for other in index.get(token, ())}
        if any(_jaccard(tokens, theirs[other]) >= at_least for other in candidates):
            found.append(place)
    return found


def without_copies(data: Labelled, of: Labelled) -> Labelled:
    """The set without the rows that have a near copy in the other."""
    copies = set(near_copies(data.texts, of.texts))
    return data.take([i for i in range(len(data)) if i not in copies])


def _tokens(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.lower()))


def _prefix(tokens: frozenset[str], counts: dict[str, int], at_least: float) -> list[str]:
    ordered = sorted(tokens, key=lambda token: (counts[token], token))
    return ordered[: len(ordered) - int(-(-at_least * len(ordered) // 1)) + 1]


def _jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / len(a | b) if a or b else 1.0
