"""Whether a retrained model may take the present one's place: both on the same fixed sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.errors import ModelError
from model.paired import Change, changes

if TYPE_CHECKING:
    from model.scorer import Scorer
    from model.test_sets import Task


class Limits(NamedTuple):
    """From where on a new model is too much worse."""

    tolerance: float = 0.005  # fall of accuracy or macro F1
    calibration_tolerance: float = 0.02  # rise of the calibration error
    confidence: float = 0.95  # share of resamples in which it must be worse


class Compared(NamedTuple):
    """Both models on one set; `refused` says why the new one must not take over, in words."""

    title: str
    rows: int
    changes: tuple[Change, ...]
    refused: tuple[str, ...]


class Comparison(NamedTuple):
    """All sets; `left_out` names those that a model has no labels for, `lost` the labels that the new one lacks."""

    sets: tuple[Compared, ...]
    left_out: tuple[str, ...]
    lost: tuple[str, ...] = ()

    @property
    def refused(self) -> tuple[str, ...]:
        """Why the new model must not take over; empty when it may."""
        return self.lost + tuple(reason for each in self.sets for reason in each.refused)


def compare(tasks: Sequence[Task], old: Scorer, new: Scorer, limits: Limits) -> Comparison:
    """Both models on all sets, each without the rows that have a near copy among the rows trained on.

    The new one is refused where a score is worse than the present one's by more than the tolerance, and chance does not
    explain it: it is worse in at least `limits.confidence` of the resamples of a paired bootstrap. So is one that lacks
    a label of the present one's: sets with that label are left out, and what counts on it would find nothing any more.

    Raises:
        ModelError: no set can be compared.
    """
    compared, left_out, lost = [], [], _lost(old, new)
    for task in tasks:
        missing = [side.version for side in (old, new) if not set(task.labels) <= set(_labels(side, task))]
        rows = task.alone
        if missing or not len(rows):
            why = f"{', '.join(missing)} has other labels" if missing else "all its rows are copies of training rows"
            left_out.append(f"{task.title}: {why}")
            continue
        texts = [task.texts[row] for row in rows]
        found = changes(task.truth[rows], _probabilities(old, task, texts), _probabilities(new, task, texts))
        refused = tuple(_reason(task.title, change, limits) for change in found if _is_worse(change, limits))
        compared.append(Compared(task.title, len(rows), found, refused))
    if not compared and not lost:
        raise ModelError("the models cannot be compared: " + "; ".join(left_out or ("there are no sets",)))
    return Comparison(tuple(compared), tuple(left_out), lost)


def _lost(old: Scorer, new: Scorer) -> tuple[str, ...]:
    heads = (("sentiment", old.sentiment_labels, new.sentiment_labels), ("topic", old.topic_labels, new.topic_labels))
    missing = ((head, [label for label in before if label not in now]) for head, before, now in heads)
    return tuple(f"{new.version} lacks the {head} labels {', '.join(labels)}" for head, labels in missing if labels)


def _is_worse(change: Change, limits: Limits) -> bool:
    loss = change.old - change.new
    tolerance = limits.tolerance
    if change.score == "calibration error":
        loss, tolerance = -loss, limits.calibration_tolerance
    return loss > tolerance and change.worse >= limits.confidence


def _reason(title: str, change: Change, limits: Limits) -> str:
    calibrates = change.score == "calibration error"
    tolerance = limits.calibration_tolerance if calibrates else limits.tolerance
    return (
        f"{title}: {change.score} {'rises' if calibrates else 'falls'} from {change.old:.3f} to {change.new:.3f}, by "
        f"{abs(change.new - change.old):.3f}, and {tolerance:g} is tolerated (worse in {change.worse:.0%} of resamples)"
    )


def _labels(scorer: Scorer, task: Task) -> tuple[str, ...]:
    return tuple(scorer.topic_labels if task.head == "topic" else scorer.sentiment_labels)


def _probabilities(scorer: Scorer, task: Task, texts: list[str]) -> NDArray[np.float32]:
    """Probabilities with the set's label order, then those of the model's other labels together (a wrong answer)."""
    scores = scorer.score(texts)
    own = scores.topic if task.head == "topic" else scores.sentiment
    labels = _labels(scorer, task)
    others = [place for place, label in enumerate(labels) if label not in task.labels]
    rest = own[:, others].max(1, initial=0.0)[:, None]
    return np.hstack([own[:, [labels.index(label) for label in task.labels]], rest])
