"""How well the model does on items whose labels nobody knows: confidence-based performance estimation.

NannyML's CBPE: where probabilities are calibrated, an item whose best label has probability p is right with probability
p, so the confusion matrix to expect follows from the probabilities alone. It sees the harm that other texts do, not a
change in what the same texts mean (concept drift): that shows only in labels (`newsquake label`).
Garcia et al. (2023), "Estimating Model Performance Under Covariate Shift Without Labels", arXiv:2401.08348.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Expected(NamedTuple):
    """What to expect of one head on a stretch, with 95 % intervals.

    The intervals are of what one would see if the labels came in: they cover the choice of items and the labels' luck.
    """

    accuracy: float
    accuracy_interval: tuple[float, float]
    macro_f1: float
    macro_f1_interval: tuple[float, float]
    accuracy_draws: NDArray[np.float64]  # (draws,)
    macro_f1_draws: NDArray[np.float64]  # (draws,)


def expected(probabilities: NDArray[np.float64], *, draws: int = 500, seed: int = 0) -> Expected:
    """The estimate from calibrated probabilities (n, labels).

    >>> sure = expected(np.array([[1.0, 0.0], [0.0, 1.0]] * 50))
    >>> sure.accuracy, sure.macro_f1, sure.accuracy_interval
    (1.0, 1.0, (1.0, 1.0))
    >>> expected(np.array([[0.8, 0.2], [0.4, 0.6]] * 50)).accuracy.__round__(6)
    0.7
    """
    n, labels = probabilities.shape
    guess = probabilities.argmax(1)
    confusion = np.zeros((labels, labels))  # [guess, truth]
    np.add.at(confusion, guess, probabilities)
    rng = np.random.default_rng(seed)
    steps = probabilities.cumsum(1)
    steps[:, -1] = 1.0
    found = np.empty((draws, 2))
    for draw in range(draws):
        rows = rng.integers(n, size=n)
        truth = (steps[rows] < rng.random((n, 1))).sum(1)
        table = np.bincount(guess[rows] * labels + truth, minlength=labels * labels).reshape(labels, labels)
        found[draw] = scores_of(table)
    accuracy, macro_f1 = scores_of(confusion)
    low, high = np.quantile(found, (0.025, 0.975), axis=0).tolist()
    return Expected(accuracy, (low[0], high[0]), macro_f1, (low[1], high[1]), found[:, 0], found[:, 1])


def scores_of(confusion: NDArray[np.float64] | NDArray[np.int64]) -> tuple[float, float]:
    """Accuracy and macro F1 (over labels that are or are guessed) of a table (labels, labels) of counts."""
    right = np.diag(confusion)
    each = confusion.sum(0) + confusion.sum(1)
    there = each >= 1  # of an expected table: less than one item is none
    return float(right.sum() / confusion.sum()), float((2 * right[there] / each[there]).mean())
