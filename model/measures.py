"""What answers are worth: accuracy, F1 and calibration, with bootstrap intervals (Efron 1979)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BINS = 15
_TAILS = (2.5, 97.5)  # percent: intervals of 95 %


@dataclass(frozen=True)
class Interval:
    """A score and where it would fall in 95 % of such sets."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassScore:
    """One line of the classification report."""

    label: str
    precision: float
    recall: float
    f1: float
    rows: int


@dataclass(frozen=True)
class Bin:
    """One bar of a reliability diagram: rows whose confidence is alike."""

    rows: int
    confidence: float
    right: float


@dataclass(frozen=True)
class Calibration:
    """How far confidence is from the share right; `error` is the ECE (Naeini et al. 2015) over 15 equal bins.

    `by_chance` is the error to expect of as many rows with these confidences if each meant exactly what it says: few
    rows are never even (Roelofs et al. 2022, Mitigating bias in calibration error estimation).
    """

    error: float
    by_chance: float
    bins: tuple[Bin, ...]  # those that hold rows


@dataclass(frozen=True)
class Measures:
    """Scores of one answerer on one set; F1 as scikit-learn averages it."""

    rows: int
    accuracy: Interval
    macro_f1: Interval
    weighted_f1: Interval
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]  # truth by answer


def measure(
    truth: NDArray[np.int64], guess: NDArray[np.int64], labels: Sequence[str], samples: int = 2_000, seed: int = 1
) -> Measures:
    """Scores of n answers, both given as places in `labels`; `samples` resamples make the intervals.

    To draw n rows with replacement is to draw the confusion matrix from a multinomial, so all samples come at once.
    """
    size = len(labels)
    confusion = np.bincount(truth * size + guess, minlength=size * size).reshape(size, size)
    cells = np.flatnonzero(confusion)
    drawn = np.zeros((samples, size * size), np.int64)
    rng = np.random.default_rng(seed)
    drawn[:, cells] = rng.multinomial(len(truth), confusion.ravel()[cells] / max(len(truth), 1), size=samples)
    point, spread = _scores(confusion), _scores(drawn.reshape(samples, size, size))
    accuracy, macro, weighted = (
        Interval(float(value), *(float(edge) for edge in np.percentile(many, _TAILS)))
        for value, many in zip(point, spread, strict=True)
    )
    return Measures(len(truth), accuracy, macro, weighted, _classes(confusion, labels), _tuples(confusion))


def calibration(probabilities: NDArray[np.float32], truth: NDArray[np.int64]) -> Calibration:
    """Calibration of n probabilities (n, labels): what the label named is sure of against how often it is right."""
    confidence, right = probabilities.max(1).astype(np.float64), probabilities.argmax(1) == truth
    place = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    rows, sure, hits, spread = (
        np.bincount(place, weights=w, minlength=_BINS) for w in (None, confidence, right, confidence * (1 - confidence))
    )
    found = tuple(Bin(int(rows[i]), float(sure[i] / rows[i]), float(hits[i] / rows[i])) for i in np.flatnonzero(rows))
    n = max(len(truth), 1)
    by_chance = np.sqrt(spread * 2 / np.pi).sum() / n  # E|x| of a normal x
    return Calibration(float(np.abs(sure - hits).sum() / n), float(by_chance), found)


def accuracy_gain(
    truth: NDArray[np.int64], old: NDArray[np.int64], new: NDArray[np.int64], samples: int = 2_000, seed: int = 1
) -> Interval:
    """How much accuracy `new` gains over `old` on the same rows; an interval that holds 0 decides nothing."""
    gain = (new == truth).astype(int) - (old == truth)
    shares = np.bincount(gain + 1, minlength=3) / len(gain)
    drawn = np.random.default_rng(seed).multinomial(len(gain), shares, size=samples)
    low, high = np.percentile((drawn[:, 2] - drawn[:, 0]) / len(gain), _TAILS)
    return Interval(float(gain.mean()), float(low), float(high))


def _scores(confusion: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Accuracy, macro and weighted F1 of matrices (..., labels, labels)."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    true = confusion.sum(-1)
    both = true + confusion.sum(-2)
    f1 = 2 * right / np.maximum(both, 1)
    rows = np.maximum(true.sum(-1), 1)
    macro = f1.sum(-1) / np.maximum((both > 0).sum(-1), 1)  # of the labels that occur at all
    return right.sum(-1) / rows, macro, (f1 * true).sum(-1) / rows


def _classes(confusion: NDArray[np.int64], labels: Sequence[str]) -> tuple[ClassScore, ...]:
    right, true, said = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    return tuple(
        ClassScore(
            label,
            float(right[i] / max(said[i], 1)),
            float(right[i] / max(true[i], 1)),
            float(2 * right[i] / max(true[i] + said[i], 1)),
            int(true[i]),
        )
        for i, label in enumerate(labels)
    )


def _tuples(matrix: NDArray[np.int64]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(value) for value in row) for row in matrix)
