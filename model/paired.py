"""Two models on the same rows: how much better or worse the new one is, and how sure that is (paired bootstrap).

Efron 1979; Koehn 2004, Statistical Significance Tests for Machine Translation Evaluation.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_TAILS = (2.5, 97.5)  # percent
_ECE_SAMPLES = 300
_BINS = 15  # as in `model.measures.calibration`


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
    weights = np.vstack([np.ones_like(truth), rng.multinomial(len(truth), [1 / len(truth)] * len(truth), _ECE_SAMPLES)])
    first, second = (np.abs(weights @ _gaps(side, truth)).sum(1) / len(truth) for side in (old, new))
    return (*found, _change("calibration error", first, second, sign=1))


def _gaps(probabilities: NDArray[np.float32], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """How much each row adds to its bin's distance between confidence and share right: (n, bins)."""
    confidence = probabilities.max(1).astype(np.float64)
    gaps = np.zeros((len(truth), _BINS))
    place = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gaps[np.arange(len(truth)), place] = confidence - (probabilities.argmax(1) == truth)
    return gaps


def _scores(
    truth: NDArray[np.int64], guess: NDArray[np.int64], drawn: NDArray[np.int64], labels: int
) -> NDArray[np.float64]:
    """Accuracy and macro F1, over labels that occur, of each line of counts (lines, k): (lines, 2)."""
    is_truth, is_guess = (np.eye(labels)[side] for side in (truth, guess))  # (k, labels); floats multiply faster
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
