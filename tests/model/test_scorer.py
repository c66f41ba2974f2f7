from __future__ import annotations

import random
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.encoder import load_tokenizer
from model.errors import ModelError
from model.network import Network
from model.scorer import Scorer, Scores, token_batches
from model.settings import ModelSettings
from model.weights import unpack

_WORDS = ["bank", "profit", "loss", "court", "index", "oil", "soars", "plunges", "fraud", "quarter", "$ACME", "of"]
_HOSTILE = [
    "",
    " ",
    "\x00\x01\x02",
    "\ud800 lone",
    "a" * 5_000_000,
    "💥" * 10_000,
    "&#x110000;",
    "<b>" * 1_000,
    "[MASK] [SEP]",
]


@pytest.fixture
def exact_scorer(tiny_weights: Path, tiny_encoder: Path) -> Scorer:
    """In float32 wherever the tests run, so that scores can be compared."""
    network, version = unpack(tiny_weights, tiny_encoder)
    tokenizer = load_tokenizer(tiny_encoder, 96)
    return Scorer(network, tokenizer, version=version, device="cpu", token_budget=256, bfloat16=False)


def _texts(count: int) -> list[str]:
    rng = random.Random(0)
    return [" ".join(rng.choices(_WORDS, k=rng.randrange(1, 60))) for _ in range(count)]


def _close(a: Scores, b: Scores) -> bool:
    return all(np.allclose(x, y, atol=1e-5) for x, y in zip(a, b, strict=True))


def test_every_text_gets_its_own_probabilities_in_order(exact_scorer: Scorer) -> None:
    texts = _texts(300)
    scores = exact_scorer.score(texts)
    assert scores.sentiment.shape == (300, len(exact_scorer.sentiment_labels))
    assert scores.topic.shape == (300, len(exact_scorer.topic_labels))
    for part in scores:
        assert part.dtype == np.float32
        assert np.allclose(part.sum(1), 1, atol=1e-5)
    alone = [exact_scorer.score([text]) for text in texts[:40]]
    assert _close(
        Scores(*(part[:40] for part in scores)), Scores(*(np.concatenate(p) for p in zip(*alone, strict=True)))
    )


def test_more_texts_than_are_looked_at_at_once(exact_scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = _texts(100)
    whole = exact_scorer.score(texts)
    monkeypatch.setattr("model.scorer._LOOK_AHEAD", 7)
    assert _close(whole, exact_scorer.score(texts))


def test_no_texts_give_no_scores(exact_scorer: Scorer) -> None:
    assert exact_scorer.score([]).topic.shape == (0, len(exact_scorer.topic_labels))


def test_the_same_text_is_scored_once(exact_scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    forward = exact_scorer._forward
    monkeypatch.setattr(exact_scorer, "_forward", lambda ids: rows.append(len(ids)) or forward(ids))
    scores = exact_scorer.score(
        ["oil soars https://t.co/1", "bank fraud", "oil  soars https://t.co/2", "oil soars"] * 50
    )
    assert sum(rows) == 2
    assert np.array_equal(scores.sentiment[0], scores.sentiment[199])


def test_hostile_texts_are_scored_and_change_no_neighbour(exact_scorer: Scorer) -> None:
    alone = exact_scorer.score(["bank fraud"])
    among = exact_scorer.score([*_HOSTILE, "bank fraud"])
    assert np.isfinite(among.sentiment).all()
    assert _close(alone, Scores(*(part[-1:] for part in among)))


@given(st.lists(st.integers(1, 200), max_size=80), st.integers(1, 500))
def test_batches_hold_every_text_once_and_fit_the_budget(lengths: list[int], budget: int) -> None:
    batches = list(token_batches(lengths, budget))
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget


def test_threads_get_what_one_thread_gets(exact_scorer: Scorer) -> None:
    texts = _texts(60)
    whole = exact_scorer.score(texts)
    with ThreadPoolExecutor(6) as pool:
        results = pool.map(exact_scorer.score, [texts[i % 5 :] for i in range(24)])
        for i, part in enumerate(results):
            assert _close(part, Scores(*(p[i % 5 :] for p in whole)))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_batches_are_halved_until_they_fit(
    exact_scorer: Scorer, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    texts = _texts(50)
    whole = exact_scorer.score(texts)
    forward = exact_scorer._forward

    def small_device(ids: list[list[int]]) -> Scores:
        if len(ids) > 2:
            raise error("full")
        return forward(ids)

    monkeypatch.setattr(exact_scorer, "_forward", small_device)
    assert _close(whole, exact_scorer.score(texts))


def test_no_memory_for_one_text_says_what_to_do(exact_scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_device(ids: list[list[int]]) -> Scores:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(exact_scorer, "_forward", full_device)
    with pytest.raises(ModelError, match="set device to cpu"):
        exact_scorer.score(_texts(3))


def test_loading_needs_no_network(tiny_weights: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refused)
    scorer = Scorer.load(ModelSettings(weights=tiny_weights, encoder=tiny_encoder))
    assert scorer.version.startswith("tiny-1+")
    assert scorer.score(["bank fraud"]).sentiment.shape == (1, 3)


def test_the_format_of_the_processor_changes_little(tiny_scorer: Scorer, exact_scorer: Scorer) -> None:
    texts = _texts(100)
    assert np.allclose(tiny_scorer.score(texts).sentiment, exact_scorer.score(texts).sentiment, atol=0.05)


def test_a_gpu_that_is_not_there_is_refused(tiny_weights: Path, tiny_encoder: Path) -> None:
    with pytest.raises(ModelError, match="torch sees"):
        Scorer.load(ModelSettings(weights=tiny_weights, encoder=tiny_encoder, device="cuda:99"))


def test_temperatures_and_heads_make_the_served_probabilities(tiny_network: Network, exact_scorer: Scorer) -> None:
    tokens = load_tokenizer_ids(exact_scorer, "bank fraud")
    with torch.inference_mode():
        logits = tiny_network(tokens, torch.ones_like(tokens))
    heads = [(logits.sentiment[0, i] / t).softmax(-1) for i, t in enumerate((1.5, 0.8))]
    served = exact_scorer.score(["bank fraud"]).sentiment[0]
    assert np.allclose(sum(heads).numpy() / 2, served, atol=0.05)


def load_tokenizer_ids(scorer: Scorer, text: str) -> torch.Tensor:
    return torch.tensor([scorer._tokenizer.encode(text).ids])
