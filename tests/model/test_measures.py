from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, classification_report, confusion_matrix, f1_score

from model.measures import accuracy_gain, calibration, measure

LABELS = ("a", "b", "c", "d")


@settings(deadline=None, max_examples=40)  # scikit-learn's report is slow
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60))
def test_scores_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    truth, guess = np.array(pairs).T
    found = measure(truth, guess, LABELS, samples=100)
    assert found.accuracy.value == pytest.approx(accuracy_score(truth, guess))
    assert found.macro_f1.value == pytest.approx(f1_score(truth, guess, average="macro"))
    assert found.weighted_f1.value == pytest.approx(f1_score(truth, guess, average="weighted"))
    assert found.confusion == tuple(map(tuple, confusion_matrix(truth, guess, labels=range(4)).tolist()))
    each = classification_report(truth, guess, labels=range(4), output_dict=True, zero_division=0)
    for place, line in enumerate(found.classes):
        theirs = each[str(place)]
        assert (line.precision, line.recall, line.f1, line.rows) == pytest.approx(
            (theirs["precision"], theirs["recall"], theirs["f1-score"], theirs["support"])
        )


def test_intervals_hold_what_resampling_rows_gives() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(4, size=400)
    guess = np.where(rng.random(400) < 0.8, truth, rng.integers(4, size=400))
    found = measure(truth, guess, LABELS, samples=4_000)
    rows = rng.integers(400, size=(4_000, 400))
    accuracies = (truth == guess)[rows].mean(1)
    macros = [f1_score(truth[r], guess[r], average="macro") for r in rows[:500]]
    assert (found.accuracy.low, found.accuracy.high) == pytest.approx(np.percentile(accuracies, (2.5, 97.5)), abs=0.01)
    assert (found.macro_f1.low, found.macro_f1.high) == pytest.approx(np.percentile(macros, (2.5, 97.5)), abs=0.02)
    assert found.accuracy.low < found.accuracy.value < found.accuracy.high


def test_the_same_seed_gives_the_same_interval() -> None:
    truth, guess = np.array([0, 1, 2, 3, 0]), np.array([0, 1, 2, 0, 3])
    assert measure(truth, guess, LABELS) == measure(truth, guess, LABELS)


def test_calibration_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]], np.float32)
    found = calibration(probabilities, np.array([0, 0, 0, 1]))
    assert found.error == pytest.approx(0.15)
    (only,) = found.bins
    assert (only.rows, only.right) == (4, 0.75)


def test_calibration_error_of_the_calibrated_is_zero() -> None:
    sure = np.array([0.75] * 4 + [1.0] * 2, np.float32)
    probabilities = np.stack([sure, 1 - sure], axis=1)
    assert calibration(probabilities, np.array([0, 0, 0, 1, 0, 0])).error == pytest.approx(0)


@given(rows=st.integers(200, 3_000), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_what_chance_gives_is_what_true_confidences_give(rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sure = rng.uniform(0.5, 1, rows).astype(np.float32)
    probabilities = np.stack([sure, 1 - sure], axis=1)
    drawn = [calibration(probabilities, (rng.random(rows) > sure).astype(int)) for _ in range(100)]
    assert drawn[0].by_chance == pytest.approx(np.mean([each.error for each in drawn]), rel=0.15)


def test_a_gain_is_told_from_chance() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=2_000)
    poor = np.where(rng.random(2_000) < 0.8, truth, 1 - truth)
    good = np.where(rng.random(2_000) < 0.9, truth, 1 - truth)
    better, worse = accuracy_gain(truth, poor, good), accuracy_gain(truth, good, poor)
    assert better.low > 0 > worse.high
    assert better.value == pytest.approx(-worse.value)
    assert accuracy_gain(truth, poor, poor).value == 0
