from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from model.data import with_sentiment
from model.evaluate import calibration_error, evaluate, measure, report
from model.scorer import Scorer


def test_scores_by_hand() -> None:
    data = with_sentiment("x", ("a", "b"), [("1", 0), ("2", 0), ("3", 0), ("4", 1)])
    result = measure("x", data, np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]], np.float32))
    assert result.accuracy == 0.75
    assert result.macro_f1 == pytest.approx((0.8 + 2 / 3) / 2)
    assert result.weighted_f1 == pytest.approx((3 * 0.8 + 2 / 3) / 4)
    assert result.ece == pytest.approx(0.15)


def test_calibration_error_of_the_calibrated_is_zero() -> None:
    confidence = np.array([0.75] * 4 + [1.0] * 2, np.float32)
    assert calibration_error(confidence, np.array([1, 1, 1, 0, 1, 1], bool)) == pytest.approx(0)


def test_all_sets_are_reported_with_and_without_near_copies(
    tiny_scorer: Scorer, labelled_sets: Callable[[], dict[str, Path]]
) -> None:
    results = evaluate(tiny_scorer, **labelled_sets())
    rows = {result.name: result.rows for result in results}
    assert rows["TFNS validation"] == 60
    assert rows["TFNS validation, no near copies"] == 59
    assert rows["PhraseBank 50Agree"] == 60
    assert 0 < rows["SEntFiN, held-out tenth"] < 20
    assert report(results).count("\n") == len(results) + 1
