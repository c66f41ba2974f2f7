from __future__ import annotations

import json
import random
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from model.engine import Engine, OutOfMemory, TorchEngine
from model.errors import DeviceError, ModelError
from model.network import Network
from model.scorer import Scorer, Scores, token_batches
from model.settings import ModelSettings

_WORDS = ["bank", "profit", "loss", "court", "index", "oil", "soars", "plunges", "fraud", "quarter", "$ACME", "of"]
_HOSTILE = [
    "",
    " ",
    "\x00\x01\x02",
    "\ud800 lone",
    "a" * 5_000_000,
    "$ACME bank fraud " * 3_000,
    "💥" * 10_000,
    "&#x110000;",
    "<b>" * 1_000,
    "[MASK] [SEP]",
]


@pytest.fixture
def exact_scorer(tiny_weights: Path, tiny_encoder: Path) -> Scorer:
    """In float32 wherever the tests run, so that scores can be compared."""
    settings = ModelSettings(
        weights=tiny_weights, encoder=tiny_encoder, device="cpu", backend="torch", precision="float32", token_budget=256
    )
    return Scorer.load(settings)


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


class Watched:
    """An engine that notes the size of each batch, and runs out of memory above a size."""

    def __init__(self, engine: Engine, most: int = 1_000_000) -> None:
        self.engine, self.most, self.sizes = engine, most, list[int]()

    def run(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> Scores:
        self.sizes.append(len(input_ids))
        if len(input_ids) > self.most:
            raise OutOfMemory("cpu")
        return self.engine.run(input_ids, attention_mask)


def _watch(scorer: Scorer, most: int = 1_000_000) -> Watched:
    watched = Watched(scorer._idle.get(), most)
    scorer._idle.put(watched)
    return watched


def test_the_same_text_is_scored_once(exact_scorer: Scorer) -> None:
    watched = _watch(exact_scorer)
    scores = exact_scorer.score(
        ["oil soars https://t.co/1", "bank fraud", "oil  soars https://t.co/2", "oil soars"] * 50
    )
    assert sum(watched.sizes) == 2
    assert np.array_equal(scores.sentiment[0], scores.sentiment[199])


def test_a_long_text_is_read_to_its_end(exact_scorer: Scorer) -> None:
    """In windows: words far beyond the first one change what is said of it, and one window is said as ever."""
    start = "oil index of the quarter " * 60
    plain, other = exact_scorer.score([start + "profit soars " * 60, start + "fraud plunges " * 60]).sentiment
    assert not np.allclose(plain, other, atol=1e-3)
    same = "bank loss " * 20
    assert _close(exact_scorer.score([same]), Scores(*(part[:1] for part in exact_scorer.score([same, start]))))


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


def test_batches_are_halved_until_they_fit(exact_scorer: Scorer) -> None:
    texts = _texts(50)
    whole = exact_scorer.score(texts)
    watched = _watch(exact_scorer, most=2)
    assert _close(whole, exact_scorer.score(texts))
    assert max(watched.sizes) > 2


def test_no_memory_for_one_text_says_what_to_do(exact_scorer: Scorer) -> None:
    _watch(exact_scorer, most=0)
    with pytest.raises(DeviceError, match="set device to cpu"):
        exact_scorer.score(_texts(3))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_torch_without_memory_is_known(tiny_network: Network, error: type[Exception]) -> None:
    engine = TorchEngine(tiny_network, "cpu", bfloat16=False)

    class Full(torch.nn.Module):
        probabilities = None

        def forward(self, *_: object) -> None:
            raise error("full")

    engine._network = Full()
    with pytest.raises(OutOfMemory):
        engine.run(np.ones((1, 3), np.int64), np.ones((1, 3), np.int64))


def test_loading_needs_no_network(tiny_weights: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refused)
    scorer = Scorer.load(ModelSettings(weights=tiny_weights, encoder=tiny_encoder))
    assert scorer.version.startswith("tiny-1+")
    assert scorer.score(["bank fraud"]).sentiment.shape == (1, 3)


def test_a_device_that_computes_no_numbers_is_refused(
    tiny_weights: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but the network sees the fault: each text gets scores."""
    run = TorchEngine.run
    monkeypatch.setattr(TorchEngine, "run", lambda *given: Scores(*(part * np.nan for part in run(*given))))
    with pytest.raises(DeviceError, match="no numbers"):
        Scorer.load(ModelSettings(weights=tiny_weights, encoder=tiny_encoder, device="cpu", backend="torch"))


def test_weights_calibrated_anew_have_another_fingerprint_and_the_same_version(
    tiny_weights: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_weights, tmp_path, dirs_exist_ok=True)
    scorers = [Scorer.load(ModelSettings(weights=folder, encoder=tiny_encoder)) for folder in (tiny_weights, tmp_path)]
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"temperature": {"tfns": 3.0}}))
    scorers.append(Scorer.load(ModelSettings(weights=tmp_path, encoder=tiny_encoder)))
    scorers.append(Scorer.load(ModelSettings(weights=tiny_weights, encoder=tiny_encoder, max_tokens=16)))
    assert len({scorer.version for scorer in scorers}) == 1
    first, copied, *others = (scorer.fingerprint for scorer in scorers)
    assert first == copied
    assert len({first, *others}) == 3


def test_the_format_of_the_processor_changes_little(tiny_scorer: Scorer, exact_scorer: Scorer) -> None:
    texts = _texts(100)
    assert np.allclose(tiny_scorer.score(texts).sentiment, exact_scorer.score(texts).sentiment, atol=0.05)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_every_backend_says_the_same(
    tiny_weights: Path, tiny_encoder: Path, exact_scorer: Scorer, precision: Literal["float32", "bfloat16", "int8"]
) -> None:
    """Within 0.05 of float32 on torch, and 0.001 where OpenVINO computes in float32 too."""
    settings = ModelSettings(weights=tiny_weights, encoder=tiny_encoder, backend="openvino", precision=precision)
    texts = _texts(200)
    atol = 0.001 if precision == "float32" else 0.05
    for found, wanted in zip(Scorer.load(settings).score(texts), exact_scorer.score(texts), strict=True):
        assert np.allclose(found, wanted, atol=atol)


def test_a_plain_classifier_says_the_sentiment(tiny_weights: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    """As FinBERT does: its own labels in its own order; the topic stays ours."""
    config = BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, num_labels=2,
        id2label={0: "LABEL_0", 1: "Bad"}, label2id={"LABEL_0": 0, "Bad": 1},
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    PreTrainedTokenizerFast(tokenizer_file=str(tiny_encoder / "tokenizer.json"), pad_token="[PAD]").save_pretrained(
        tmp_path
    )
    given = {"weights": tiny_weights, "encoder": tiny_encoder, "sentiment_model": str(tmp_path)}
    scorer = Scorer.load(ModelSettings(**given, sentiment_names={"LABEL_0": "good"}))
    assert scorer.sentiment_labels == ("good", "bad")
    scores = scorer.score([*_texts(40), "", "x" * 100_000])
    assert scores.sentiment.shape == (42, 2)
    assert np.allclose(scores.sentiment.sum(1), 1, atol=1e-5)
    assert scores.topic.shape == (42, len(scorer.topic_labels))
    with pytest.raises(ModelError, match="LABEL_7"):
        Scorer.load(ModelSettings(**given, sentiment_names={"LABEL_7": "good"}))
    for folder, reason in ((tiny_encoder, "lacks classifier"), (tmp_path / "nothing", "cannot be loaded")):
        with pytest.raises(ModelError, match=reason):
            Scorer.load(ModelSettings(weights=tiny_weights, encoder=tiny_encoder, sentiment_model=str(folder)))


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
