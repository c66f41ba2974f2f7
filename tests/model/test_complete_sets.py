"""Sets that carry both labels, as our events do: they are not taught over, and calibrate no head of another set."""

from __future__ import annotations

import numpy as np

from model.batches import hard_targets
from model.data import UNLABELLED, Labelled, with_sentiment
from model.teacher import Soft, taught
from model.train import _of_its_kind

SENTIMENT, TOPICS = ("negative", "positive"), ("Markets", "Macro")
TWEETS = with_sentiment("tfns", SENTIMENT, [("up", 1), ("down", 0)])
EVENTS = Labelled("events", ("bank shut",), (0,), (1,), (1.0,), SENTIMENT, TOPICS)


def test_a_network_teaches_the_others_alone() -> None:
    sets = [TWEETS, EVENTS]
    said = Soft(np.full((3, 1, 2), 0.5, np.float32), np.full((3, 2), 0.5, np.float32))
    found = taught(hard_targets(sets, ("tfns",), 2, 2), sets, ("tfns",), [said], 0.0, 1)
    assert found.taught.tolist() == [1, 1, 0]


def test_heads_are_calibrated_on_texts_of_their_kind_where_there_are_such() -> None:
    both = _of_its_kind([TWEETS, EVENTS], hard_targets([TWEETS, EVENTS], ("tfns",), 2, 2))
    assert both.sentiment.tolist() == [[1], [0], [UNLABELLED]]
    assert both.topic.tolist() == [UNLABELLED] * 3
    alone = _of_its_kind([EVENTS], hard_targets([EVENTS], ("own",), 2, 2))
    assert (alone.sentiment.tolist(), alone.topic.tolist()) == ([[0]], [1])
