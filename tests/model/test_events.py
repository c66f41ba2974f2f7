"""What `model/data/events.jsonl` promises (docs/model-data.md)."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import Any

import pytest

from model.copies import near_copies
from model.label_file import EVENTS, read_events
from model.labels import SENTIMENT
from model.scorer import Scorer
from model.settings import ModelSettings
from model.text import clean


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in EVENTS.read_text("utf-8").splitlines()]


def test_every_line_has_its_fields_and_known_labels(rows: list[dict[str, Any]]) -> None:
    topics = Scorer.load(ModelSettings(size="small", device="cpu", backend="torch")).topic_labels
    for row in rows:
        assert set(row) == {"event", "kind", "part", "text", "sentiment", "topic"}
        assert row["part"] in ("train", "test")
        assert row["sentiment"] in SENTIMENT
        assert row["topic"] in topics
        assert row["text"].strip() == row["text"] != ""
        assert row["event"]
        assert row["kind"]
    assert {row["topic"] for row in rows} == set(topics)


def test_there_are_enough_and_a_fair_mix(rows: list[dict[str, Any]]) -> None:
    parts = Counter(row["part"] for row in rows)
    assert parts.total() >= 2_000
    assert parts["test"] >= 300
    for part in parts:
        shares = Counter(row["sentiment"] for row in rows if row["part"] == part)
        assert min(shares[label] for label in SENTIMENT) > 0.15 * shares.total()
    assert len({row["kind"] for row in rows}) >= 40
    lengths = sorted(len(row["text"].split()) for row in rows)
    assert lengths[len(lengths) // 10] <= 12
    assert lengths[-len(lengths) // 10] >= 20


def test_an_event_stands_on_one_side_and_no_text_twice(rows: list[dict[str, Any]]) -> None:
    sides = defaultdict(set)
    for row in rows:
        sides[row["event"]].add(row["part"])
    assert all(len(parts) == 1 for parts in sides.values())
    repeated = [text for text, n in Counter(clean(row["text"]).lower() for row in rows).items() if n > 1]
    assert not repeated


def test_no_test_text_has_a_near_copy_in_training() -> None:
    train, test = read_events("train"), read_events("test")
    copies = near_copies(test.texts, train.texts)
    assert [test.texts[i] for i in copies] == []
