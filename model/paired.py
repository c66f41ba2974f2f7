"""Two models on the same rows: how much better or worse the new one is, and how sure that is (paired bootstrap).

Efron 1979; Koehn 2004, Statistical Significance Tests for Machine Translation Evaluation.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.measures import calibration

_TAILS = (2.5, 97.5)  # percent
_ECE_SAMPLES = 300


class Change(NamedTuple):
    """One score of both models; a fall is bad for accuracy and F1, a rise for the calibration error."""

    score: str
    old: float
    new: float
    low: float  # 95 % interval of new - old
    high: float
    worse: float  # share of resamples in which the new one is worse


def changes(
    truth: NDArray[np.int64],
    old: NDArray[np.float32],
    new: NDArray[np.float32],
    samples: int = 2_000,
    seed: int = 1,
) -> tuple[Change, ...]:
    """Accuracy, macro F1 and calibration error (ECE) of the probabilities (n, labels) of both models.

    Rows are drawn for both models alike. To draw n rows with replacement is to draw the counts of (truth, old answer,
    new answer) from a multinomial, so all resamples of accuracy and F1 come at once.
    """
    rng = np.random.default_rng(seed)
    labels = old.shape[1]
    answers = np.stack([truth, old.argmax(1), new.argmax(1)])
    kinds, counts = np.unique(answers, axis=1, return_counts=True)  # (3, k), (k,)
    drawn = np.vstack([counts, rng.multinomial(len(truth), counts / len(truth), size=samples)])  # (1 + samples, k)
    first, second = (_scores(kinds[0], kinds[place], drawn, labels) for place in (1, 2))
    found = [
        _change(name, first[:, place], second[:, place], sign=-1) for place, name in enumerate(("accuracy", "macro F1"))
    ]
    rows = [np.arange(len(truth)), *rng.integers(len(truth), size=(min(samples, _ECE_SAMPLES), len(truth)))]
    errors = np.array([[calibration(side[row], truth[row]).error for side in (old, new)] for row in rows])
    return (*found, _change("calibration error", errors[:, 0], errors[:, 1], sign=1))


def _scores(
    truth: NDArray[np.int64], guess: NDArray[np.int64], drawn: NDArray[np.int64], labels: int
) -> NDArray[np.float64]:
    """Accuracy and macro F1, over labels that occur, of each line of counts (lines, k): (lines, 2)."""
    is_truth, is_guess = (np.eye(labels, dtype=np.int64)[side] for side in (truth, guess))  # (k, labels)
    right = drawn @ (is_truth * is_guess)
    both = drawn @ (is_truth + is_guess)
    macro = (2 * right / np.maximum(both, 1)).sum(1) / (both > 0).sum(1)
    return np.stack([right.sum(1) / drawn.sum(1), macro], axis=1)


def _change(score: str, old: NDArray[np.float64], new: NDArray[np.float64], sign: int) -> Change:
    """The first of the values is of all rows as they are, the others are resamples."""
    gains = new[1:] - old[1:]
    low, high = np.percentile(gains, _TAILS)
    worse = float((sign * gains > 0).mean())
    return Change(score, float(old[0]), float(new[0]), float(low), float(high), worse)
