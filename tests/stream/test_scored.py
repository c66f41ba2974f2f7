"""`Scored`: each item gets its own probabilities, and reads back as it was written."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.document import Document
from model.scorer import Scores
from stream import scored

SENTIMENTS, TOPICS = ("negative", "neutral", "positive"), ("Earnings", "Macro")


@given(best=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), max_size=30))
def test_each_item_gets_its_own_row(document: Callable[..., Document], best: list[tuple[int, int]]) -> None:
    sentiment = np.full((len(best), 3), 0.1, np.float32)
    topic = np.full((len(best), 2), 0.3, np.float32)
    for row, (s, t) in enumerate(best):
        sentiment[row, s], topic[row, t] = 0.8, 0.7
    placed = [(row % 4, row, document(row)) for row in range(len(best))]
    items = scored.join(placed, Scores(sentiment, topic), SENTIMENTS, TOPICS, "v1")
    assert [(item.partition, item.offset, item.document) for item in items] == placed
    assert [(item.sentiment, item.topic) for item in items] == [(SENTIMENTS[s], TOPICS[t]) for s, t in best]
    for item in items:
        assert item.sentiment_probabilities[item.sentiment] == 0.8
        assert item.topic_probabilities[item.topic] == 0.7
        assert scored.decode(scored.encode(item)) == item


def test_what_the_windows_need_of_an_item(document: Callable[..., Document]) -> None:
    one = document(7, companies=("AAPL", "MSFT"), url="https://example.org/7")
    row = Scores(np.array([[0.9, 0.05, 0.05]], np.float32), np.array([[0.2, 0.8]], np.float32))
    window_item = scored.window_item(scored.join([(2, 70, one)], row, SENTIMENTS, TOPICS, "v1")[0])
    assert (window_item.offset, window_item.id, window_item.companies) == (70, "id-7", ("AAPL", "MSFT"))
    assert (window_item.sentiment, window_item.negative, window_item.topic) == ("negative", 0.9, "Macro")
    assert window_item.seen_at == one.seen_at.timestamp()


def test_the_model_reads_title_and_text(document: Callable[..., Document]) -> None:
    assert scored.text_of(document(0, title="Bank fails", text="It lost it all.")) == "Bank fails. It lost it all."
    assert scored.text_of(document(0, title="Bank fails")) == "Bank fails"


@pytest.mark.parametrize("value", [b"", b"{}", b'{"schema":2}', b'{"topic":"\xff"}', b'{"x":' + b"[" * 9_999])
def test_what_is_no_scored_item_is_one_kind_of_error(value: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        scored.decode(value)
