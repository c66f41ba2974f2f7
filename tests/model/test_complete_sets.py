"""Sets that carry both labels, as our events do: they are not taught over, and calibrate no head but their own."""

from __future__ import annotations

import numpy as np

from model.batches import hard_targets
from model.data import UNLABELLED, Labelled, with_sentiment
from model.teacher import Soft, taught
from model.train import _of_its_kind

SENTIMENT, TOPICS = ("negative", "positive"), ("Markets", "Macro")
TWEETS = with_sentiment("tfns", SENTIMENT, [("up", 1), ("down", 0)])
EVENTS = Labelled("events", ("bank shut",), (0,), (1,), (1.0,), SENTIMENT, TOPICS, topic_weight=0.25)
DESK = Labelled("desk.csv", ("bank saved",), (1,), (0,), (1.0,), SENTIMENT, TOPICS)


def test_a_network_teaches_the_others_alone() -> None:
    sets = [TWEETS, EVENTS]
    said = Soft(np.full((3, 1, 2), 0.5, np.float32), np.full((3, 2), 0.5, np.float32))
    found = taught(hard_targets(sets, ("tfns",), 2, 2), sets, ("tfns",), [said], 0.0, 1)
    assert found.taught.tolist() == [1, 1, 0]


def test_a_convention_has_a_head_that_no_other_set_trains() -> None:
    targets = hard_targets([TWEETS, EVENTS, DESK], ("tfns", "events"), 2, 2)
    assert targets.sentiment.tolist() == [[1, UNLABELLED], [0, UNLABELLED], [UNLABELLED, 0], [1, 1]]
    assert targets.topic_weight.tolist() == [1, 1, 0.25, 1]


def test_heads_are_calibrated_on_texts_of_their_kind_where_there_are_such() -> None:
    def kept(*sets: Labelled, conventions: tuple[str, ...]) -> tuple[list[list[int]], list[int]]:
        found = _of_its_kind(sets, hard_targets(sets, conventions, 2, 2), conventions)
        return found.sentiment.tolist(), found.topic.tolist()

    none = UNLABELLED
    assert kept(TWEETS, DESK, conventions=("tfns",)) == ([[1], [0], [none]], [none] * 3)
    assert kept(DESK, conventions=("own",)) == ([[1]], [0])
    of_both = [[1, none], [0, none], [none, 0], [none, none]]
    assert kept(TWEETS, EVENTS, DESK, conventions=("tfns", "events")) == (of_both, [none] * 4)


def test_a_teacher_says_nothing_where_it_has_no_head_and_the_label_stands() -> None:
    """An older teacher has no head for a convention that came later; another one may have it."""
    targets = hard_targets([TWEETS, EVENTS], ("tfns", "events"), 2, 2)
    half = np.full((3, 1, 2), 0.5, np.float32)
    topics = np.full((3, 2), 0.5, np.float32)
    older = Soft(np.concatenate([half, 0 * half], 1), topics)
    newer = Soft(np.concatenate([[[[0, 1]]] * 3, half], 1).astype(np.float32), topics)
    alone = taught(targets, [TWEETS, EVENTS], ("tfns", "events"), [older], 0.0, 1).soft_sentiment
    assert alone.tolist() == [[[0.5, 0.5], [0, 0]], [[0.5, 0.5], [0, 0]], [[0.5, 0.5], [1, 0]]]
    both = taught(targets, [TWEETS, EVENTS], ("tfns", "events"), [older, newer], 0.0, 1).soft_sentiment
    assert both[0].tolist() == [[0.25, 0.75], [0.5, 0.5]]
