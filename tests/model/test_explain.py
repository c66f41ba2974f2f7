"""Explanations: words whole, weights that mean what they say, any text survived, one page that stands on its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from itertools import combinations
from math import factorial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast, MPNetConfig, MPNetModel

from model.errors import ModelError
from model.explain import MAX_WORDS, METHODS, Explainer, Method
from model.explain_page import page
from model.network import Network, NetworkConfig
from model.settings import ModelSettings
from model.show import Part, hide_and_show, log_odds
from model.text import clean
from model.weights import pack
from model.words import words_of

_HOSTILE = [
    "",
    "   ",
    "...!!! — (…) 'n' |",
    "👎🏽👩‍👩‍👧 🚀🚀 $ABC",
    "\x00\x1b[2J\u202e\ud800 [MASK] [SEP]",
    "银行倒闭 Bank fällt ｎｅｗｓ",
    "x" * 30_000,
    "word, " * 4_000,
]


@pytest.fixture(scope="module")
def explainer(tiny_weights: Path, tiny_encoder: Path) -> Explainer:
    return Explainer.load(_settings(tiny_weights, tiny_encoder))


def _settings(weights: Path, encoder: Path) -> ModelSettings:
    return ModelSettings(weights=weights, encoder=encoder, device="cpu", backend="torch", precision="float32")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Drug-maker's $ABC.B sinks −7.5%, (again)!", ["Drug-maker's", "$ABC.B", "sinks", "−7.5%", "again"]),
        ("#earnings @fed: “U.S. deal” — $2.5bn or £3m?", ["#earnings", "@fed", "U.S", "deal", "$2.5bn", "or", "£3m"]),
        ("dip… -- buy|sell 👎 $", ["dip", "buy", "sell", "👎"]),
        ("银行 down", ["银", "行", "down"]),
    ],
)
def test_words_are_whole(text: str, words: list[str]) -> None:
    assert [text[start:stop] for start, stop in words_of(text)] == words


@given(st.text(max_size=200))
def test_words_stand_in_the_text_in_order(text: str) -> None:
    text = clean(text)
    at = 0
    for start, stop in words_of(text):
        assert at <= start < stop <= len(text)
        assert not re.search(r"\s", text[start:stop])
        at = stop


@given(st.data(), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_hide_and_show_is_the_shapley_value_where_words_act_in_pairs(data: st.DataObject, n: int) -> None:
    number = st.floats(-1, 1)
    alone = data.draw(st.lists(number, min_size=n, max_size=n))
    pairs = {pair: data.draw(number) for pair in combinations(range(n), 2)}

    def value(shown: frozenset[int]) -> float:
        return sum(alone[i] for i in shown) + sum(v for pair, v in pairs.items() if shown.issuperset(pair))

    def score(texts: Sequence[str]) -> np.ndarray:
        odds = np.array([value(frozenset(int(word[1:]) for word in text.split() if word != "?")) for text in texts])
        yes = 1 / (1 + 2.0**-odds)
        return np.stack([1 - yes, yes], 1)

    text = " ".join(f"w{i}" for i in range(n))
    (weights,) = hide_and_show(score, [Part(text, words_of(text), 1)], "?")
    for i in range(n):
        others = [j for j in range(n) if j != i]
        exact = sum(
            factorial(size) * factorial(n - size - 1) / factorial(n)
            * (value(frozenset(chosen) | {i}) - value(frozenset(chosen)))
            for size in range(n)
            for chosen in combinations(others, size)
        )  # fmt: skip
        assert weights[i] == pytest.approx(exact, abs=1e-6)


def test_gradients_add_up_to_the_difference_from_the_masked_text(explainer: Explainer) -> None:
    text = "bank fraud hits shares"
    (explanation,) = explainer.explain([text], method="integrated-gradients")
    whole, masked = explainer.scorer.score([text, "[MASK] [MASK] [MASK] [MASK]"]).sentiment
    column = explanation.labels.index(explanation.label)
    difference = log_odds(whole[column : column + 1])[0] - log_odds(masked[column : column + 1])[0]
    assert sum(word.weight for word in explanation.words) == pytest.approx(difference, abs=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_any_text_is_explained(explainer: Explainer, method: Method) -> None:
    texts = _HOSTILE if method == "hide-and-show" else _HOSTILE[:-1]
    for text, explanation in zip(texts, explainer.explain(texts, method=method), strict=True):
        assert explanation.text == clean(text)
        assert sum(explanation.probabilities) == pytest.approx(1, abs=1e-3)
        assert explanation.probability == max(explanation.probabilities)
        assert [(word.start, word.stop) for word in explanation.words] == words_of(explanation.text)[:MAX_WORDS]
        assert all(explanation.text[word.start : word.stop] == word.text for word in explanation.words)
        assert np.isfinite([word.weight for word in explanation.words]).all()
    assert explainer.explain([], method=method) == []
    if method == "hide-and-show":
        assert explanation.left_out == 20_000 // 6 + 1 - MAX_WORDS


def test_another_head_or_label_is_explained_when_asked(explainer: Explainer) -> None:
    text = "bank fraud hits shares"
    (topic,) = explainer.explain([text], head="topic")
    assert topic.labels == explainer.scorer.topic_labels
    both = [explainer.explain([text], label=label)[0] for label in explainer.scorer.sentiment_labels]
    assert [found.label for found in both] == list(explainer.scorer.sentiment_labels)
    assert len({found.words for found in both}) == 3
    with pytest.raises(ModelError, match="no sentiment 'furious'; it has negative"):
        explainer.explain([text], label="furious")


def test_heaviest_words_speak_for_the_label_and_noise_is_left_out(explainer: Explainer) -> None:
    (found,) = explainer.explain(["bank fraud hits shares of the firm today"])
    heaviest = found.heaviest(3)
    assert heaviest
    assert [word.weight for word in heaviest] == sorted((word.weight for word in heaviest), reverse=True)
    assert heaviest[-1].weight > heaviest[0].weight / 10
    assert heaviest[0].weight == max(word.weight for word in found.words)


def test_encoders_of_another_make_are_explained(tiny_encoder: Path, tmp_path: Path) -> None:
    shape = MPNetConfig(
        vocab_size=30_522, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    torch.manual_seed(3)
    encoder = MPNetModel(shape, add_pooling_layer=False)
    folder = tmp_path / "mpnet"
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes((tiny_encoder / "tokenizer.json").read_bytes())
    (folder / "config.json").write_text(shape.to_json_string())
    save_file(encoder.state_dict(), folder / "model.safetensors")
    network = Network(
        NetworkConfig(
            encoder=shape.to_dict(),
            sentiment_labels=("negative", "positive"),
            topic_labels=("a", "b"),
            conventions=("one",),
            version="mpnet-1",
        )
    )
    network.encoder.load_state_dict(encoder.state_dict())
    torch.nn.init.normal_(network.sentiment.weight)
    pack(network, encoder.state_dict(), tmp_path / "weights")
    explainer = Explainer.load(_settings(tmp_path / "weights", folder))
    for method in METHODS:
        (found,) = explainer.explain(["bank fraud hits shares"], method=method)
        assert any(word.weight for word in found.words)


def test_a_plain_classifier_is_explained_by_its_scores(tiny_weights: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    config = BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, num_labels=2,
        id2label={0: "Bad", 1: "Good"}, label2id={"Bad": 0, "Good": 1},
    )  # fmt: skip
    torch.manual_seed(2)
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    BertTokenizerFast(tokenizer_file=str(tiny_encoder / "tokenizer.json")).save_pretrained(tmp_path)
    wanted = _settings(tiny_weights, tiny_encoder).model_copy(update={"sentiment_model": str(tmp_path)})
    explainer = Explainer.load(wanted)
    (found,) = explainer.explain(["bank fraud hits shares"])
    assert found.label in ("bad", "good")
    assert any(word.weight for word in found.words)
    with pytest.raises(ModelError, match="use hide-and-show"):
        explainer.explain(["bank fraud"], method="integrated-gradients")
    assert explainer.explain(["bank fraud"], head="topic", method="integrated-gradients")


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.shown = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.shown += data


def test_the_page_is_escaped_and_stands_on_its_own(explainer: Explainer) -> None:
    nasty = '<script>alert(1)</script> <img src=x onerror="alert(1)"> \' onload=x </span></p>'
    html = "".join(page(explainer.explain([nasty, *_HOSTILE[:6]]), "sentiment", "hide-and-show", "<i>v1</i>"))
    html.encode()
    read = _Page()
    read.feed(html)
    assert read.tags <= {"html", "head", "meta", "title", "style", "body", "h1", "p", "section", "span", "b"}
    assert not read.attributes & {"src", "href", "onerror", "onload"}
    assert nasty in read.shown
    assert "(no text)" in read.shown
    assert "url(" not in html
    assert "://" not in html
