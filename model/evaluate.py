"""Scores on the sets' held-out rows, with and without rows that have a near copy in the training rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.data import (
    SENTFIN_TEST,
    Labelled,
    labelled_only,
    read_near_copies,
    read_phrasebank,
    read_sentfin,
    read_tfns,
    read_tfnt,
    split,
)

if TYPE_CHECKING:
    from model.scorer import Scorer


class Result(NamedTuple):
    """One line of the report: F1 as scikit-learn averages it, `ece` the expected calibration error."""

    name: str
    rows: int
    accuracy: float
    macro_f1: float
    weighted_f1: float
    ece: float


def evaluate(
    scorer: Scorer, tfns: Path, tfnt: Path, sentfin: Path, phrasebank: Path | None = None
) -> tuple[Result, ...]:
    """Scores of what is served; raises `DataError` when a set is not as expected."""
    results = []
    for name, data, folder in (
        ("TFNS validation", read_tfns(tfns, "valid"), tfns),
        ("TFNT validation", read_tfnt(tfnt, "valid"), tfnt),
    ):
        probabilities = _probabilities(scorer, data)
        results.append(measure(name, data, probabilities))
        copies = read_near_copies(folder)
        if copies:
            kept = [row for row in range(len(data)) if row not in copies]
            results.append(measure(f"{name}, no near copies", data.take(kept), probabilities[kept]))
    held_out = labelled_only(split(read_sentfin(sentfin), *SENTFIN_TEST)[1])
    results.append(measure("SEntFiN, held-out tenth", held_out, _probabilities(scorer, held_out)))
    if phrasebank:
        data = read_phrasebank(phrasebank / "Sentences_50Agree.txt")
        results.append(measure("PhraseBank 50Agree", data, _probabilities(scorer, data)))
    return tuple(results)


def measure(name: str, data: Labelled, probabilities: NDArray[np.float32]) -> Result:
    """Scores of probabilities (rows, labels) against the set's labels."""
    from sklearn.metrics import accuracy_score, f1_score

    truth = np.array(data.topic if data.topic_labels else data.sentiment)
    guess = probabilities.argmax(1)
    return Result(
        name,
        len(data),
        float(accuracy_score(truth, guess)),
        float(f1_score(truth, guess, average="macro")),
        float(f1_score(truth, guess, average="weighted")),
        calibration_error(probabilities.max(1), guess == truth),
    )


def calibration_error(confidence: NDArray[np.float32], right: NDArray[np.bool_], bins: int = 15) -> float:
    """The mean distance between confidence and share right, over equal bins (Naeini et al. 2015, their ECE)."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(place, weights=confidence, minlength=bins) - np.bincount(place, weights=right, minlength=bins)
    return float(np.abs(gaps).sum() / max(len(confidence), 1))


def report(results: tuple[Result, ...]) -> str:
    """The results as a Markdown table."""
    lines = ["| set | rows | accuracy | macro F1 | weighted F1 | ECE |", "| --- | --- | --- | --- | --- | --- |"]
    for r in results:
        lines.append(
            f"| {r.name} | {r.rows:,} | {r.accuracy:.3f} | {r.macro_f1:.3f} | {r.weighted_f1:.3f} | {r.ece:.3f} |"
        )
    return "\n".join(lines)


def _probabilities(scorer: Scorer, data: Labelled) -> NDArray[np.float32]:
    """Probabilities with the set's label order, which need not be the model's."""
    scores = scorer.score(data.texts)
    if data.topic_labels:
        return scores.topic[:, [scorer.topic_labels.index(label) for label in data.topic_labels]]
    return scores.sentiment[:, [scorer.sentiment_labels.index(label) for label in data.sentiment_labels]]
