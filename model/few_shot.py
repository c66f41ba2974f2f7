"""What a user's own labels add: a head fitted on few of them, against no labels at all and against TF-IDF.

The network's encoder stays as it is; logistic regression on what its heads see (`Reading.pooled`) stands in for
training, which would take hours for a curve on a CPU and can only be better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model.baselines import tfidf_fit, tfidf_guess
from model.measures import measure

if TYPE_CHECKING:
    from model.test_sets import Task

SIZES = (50, 200, 1_000)
_SEEDS = 5
_TEST_SHARE = 0.2


@dataclass(frozen=True)
class Point:
    """Accuracy and macro F1 with n labels: means over seeds, and the standard deviation of macro F1."""

    labels: int
    accuracy: float
    macro_f1: float
    spread: float


@dataclass(frozen=True)
class FewShot:
    """The curves on one set, every seed with a split of its own."""

    task: str
    test_rows: int
    no_labels: Point
    embeddings: tuple[Point, ...]
    tfidf: tuple[Point, ...]  # without the sizes that TF-IDF finds nothing in


def few_shot(
    task: Task,
    pooled: NDArray[np.float32],
    served: NDArray[np.int64],
    seed: int,
    progress: Callable[[str], None],
) -> FewShot:
    """Curves on a set that was never trained on.

    Args:
        task: The set, n rows.
        pooled: (n, hidden).
        served: (n,) what the network answers without any label of this set.
        seed: Of the splits.
        progress: Told what is going on.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = np.arange(len(task.truth))
    common = np.bincount(task.truth, minlength=len(task.labels)) >= 2  # stratifying needs two of each
    rows = rows[common[task.truth]]
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    test_rows = 0
    for each in range(seed, seed + _SEEDS):
        train, test = train_test_split(rows, test_size=_TEST_SHARE, stratify=task.truth[rows], random_state=each)
        test_rows = len(test)
        order = np.random.default_rng(each).permutation(train)
        score = _Score(task, test)
        found.setdefault(("none", 0), []).append(score(served[test]))
        for size in (*(s for s in SIZES if s < len(train)), len(train)):
            chosen = order[:size]
            if len(set(task.truth[chosen])) < 2:
                continue
            progress(f"few-shot, seed {each}, {size} labels")
            head = make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=1_000))
            guess = head.fit(pooled[chosen], task.truth[chosen]).predict(pooled[test])
            found.setdefault(("embeddings", size), []).append(score(guess))
            model = tfidf_fit([task.texts[i] for i in chosen], [task.labels[task.truth[i]] for i in chosen])
            if model is not None:
                guess = tfidf_guess(model, [task.texts[i] for i in test], task.labels)
                found.setdefault(("tfidf", size), []).append(score(guess))
    points = {key: _point(key[1], scores) for key, scores in found.items()}
    curves = (tuple(p for (own, _), p in sorted(points.items()) if own == kind) for kind in ("embeddings", "tfidf"))
    return FewShot(task.key, test_rows, points["none", 0], *curves)


class _Score:
    """(accuracy, macro F1) of answers to the test rows."""

    def __init__(self, task: Task, test: NDArray[np.int64]) -> None:
        self._truth, self._labels = task.truth[test], task.labels

    def __call__(self, guess: NDArray[np.int64]) -> tuple[float, float]:
        found = measure(self._truth, guess, self._labels, samples=1)
        return found.accuracy.value, found.macro_f1.value


def _point(size: int, scores: Sequence[tuple[float, float]]) -> Point:
    accuracy, macro = np.array(scores).T
    return Point(size, float(accuracy.mean()), float(macro.mean()), float(macro.std()))
