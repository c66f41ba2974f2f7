"""Which labels stay when a text changes in a way that a reader would overlook, and which change with its meaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model.negation import PAIRS
from model.perturb import PERTURBATIONS
from model.test_sets import HEADS

if TYPE_CHECKING:
    from model.scorer import Scorer
    from model.test_sets import Task

USUAL = ("typo", "upper case", "lower case", "URL", "emoji")  # what every stream is full of


@dataclass(frozen=True)
class Kept:
    """Share of the labels that stayed under one change, of the texts that it changed."""

    texts: int
    sentiment: float
    topic: float


@dataclass(frozen=True)
class Robustness:
    """What one model keeps.

    Attributes:
        kept: By change.
        usual: The mean of `USUAL`, each head.
        by_set: That mean, both heads together, by set.
        negation: Share of `model.negation.PAIRS` whose two labels differ, or agree, as they must.
        negation_must_differ: The same of those that must differ.
        wrong_pairs: The pairs that do not.
    """

    kept: dict[str, Kept]
    usual: Kept
    by_set: dict[str, float]
    negation: float
    negation_must_differ: float
    wrong_pairs: tuple[tuple[str, str], ...]


def truncated(text: str, rng: np.random.Generator) -> str:
    """Without its last third, cut at a word where there is one."""
    head = text[: len(text) * 2 // 3]
    return head.rsplit(None, 1)[0] if " " in head.strip() else head


CHANGES: Mapping[str, Callable[[str, np.random.Generator], str]] = MappingProxyType(
    {**PERTURBATIONS, "cut by a third": truncated}
)


def robustness(scorer: Scorer, tasks: Sequence[Task], texts: int, seed: int) -> Robustness:
    """Change up to `texts` texts of each set in every way, and look how many labels stay."""
    same: dict[str, dict[str, list[NDArray[np.bool_]]]] = {}  # change -> head -> an array a set
    by_set = {}
    for place, (name, rows) in enumerate(_texts(tasks).items()):
        rng = np.random.default_rng([seed, place])
        chosen = [rows[i] for i in sorted(rng.permutation(len(rows))[:texts])]
        changed = {kind: [change(text, rng) for text in chosen] for kind, change in CHANGES.items()}
        scores = scorer.score([*chosen, *(text for many in changed.values() for text in many)])
        shares = []
        for head in HEADS:
            labels = getattr(scores, head).argmax(1).reshape(len(changed) + 1, len(chosen))
            for line, (kind, many) in enumerate(changed.items(), 1):
                moved = np.array([a != b for a, b in zip(chosen, many, strict=True)], bool)
                kept = labels[line][moved] == labels[0][moved]
                same.setdefault(kind, {head: [] for head in HEADS})[head].append(kept)
                if kind in USUAL and len(kept):
                    shares.append(kept.mean())
        by_set[name] = float(np.mean(shares)) if shares else 1.0
    kept_by = {kind: _kept(by_head) for kind, by_head in same.items()}
    usual = [kept_by[kind] for kind in USUAL]
    mean = Kept(
        sum(k.texts for k in usual),
        *(float(np.mean([getattr(k, head) for k in usual])) for head in ("sentiment", "topic")),
    )
    return Robustness(kept_by, mean, by_set, *_negation(scorer))


def _texts(tasks: Sequence[Task]) -> dict[str, list[str]]:
    """Texts by set, each once though it may carry two labels."""
    found: dict[str, dict[str, None]] = {}
    for task in tasks:
        found.setdefault(task.set_name, {}).update(dict.fromkeys(task.texts))
    return {name: list(texts) for name, texts in found.items()}


def _kept(by_head: Mapping[str, list[NDArray[np.bool_]]]) -> Kept:
    joined = {head: np.concatenate(many) for head, many in by_head.items()}
    return Kept(
        len(joined["topic"]),
        *(float(joined[head].mean()) if len(joined[head]) else 1.0 for head in ("sentiment", "topic")),
    )


def _negation(scorer: Scorer) -> tuple[float, float, tuple[tuple[str, str], ...]]:
    labels = scorer.score([text for pair in PAIRS for text in pair[:2]]).sentiment.argmax(1)
    right = np.array([(labels[2 * i] == labels[2 * i + 1]) == pair.same for i, pair in enumerate(PAIRS)])
    must_differ = np.array([not pair.same for pair in PAIRS])
    wrong = tuple((pair.plain, pair.negated) for pair, good in zip(PAIRS, right, strict=True) if not good)
    return float(right.mean()), float(right[must_differ].mean()), wrong
