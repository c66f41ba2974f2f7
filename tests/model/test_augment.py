"""Texts that teachers label: made of the training texts by related words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from model.augment import augmented, with_augmented
from model.encoder import MINILM, encoder_folder, load_encoder, load_tokenizer
from model.errors import ModelError
from model.settings import TrainSettings
from model.train import train
from model.training_sets import read_training_sets

_WORD = re.compile(r"[A-Za-z]{3,}")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(encoder_folder(), 32)


@pytest.fixture(scope="module")
def table() -> torch.Tensor:
    return load_encoder(encoder_folder(None, MINILM))[1]["embeddings.word_embeddings.weight"]


def test_words_are_replaced_by_related_ones_in_the_same_case(tokenizer: Tokenizer, table: torch.Tensor) -> None:
    texts = ["LAWSUIT: 3 Profits in fraud!"] * 300
    found = [
        re.fullmatch(r"([A-Z]+): 3 ([A-Z][a-z]+) in ([a-z]+)!", text)
        for text in augmented(texts, tokenizer, table, 0.999, 1)
    ]
    for place, related in ((1, "LITIGATION"), (2, "Revenues"), (3, "deception")):
        words = {match.group(place) for match in found if match}
        assert related in words
    assert all(found)


@hypothesis.settings(max_examples=20, deadline=None)  # each reads the whole vocabulary
@given(texts=st.lists(st.text(max_size=40), max_size=4), seed=st.integers(0, 99))
def test_all_but_words_stays_and_a_seed_gives_the_same(tokenizer: Tokenizer, texts: list[str], seed: int) -> None:
    near = torch.randn(tokenizer.get_vocab_size(), 4, generator=torch.Generator().manual_seed(0))
    found = augmented(texts, tokenizer, near, 0.5, seed)
    assert [_WORD.split(text) for text in found] == [_WORD.split(text) for text in texts]
    assert found == augmented(texts, tokenizer, near, 0.5, seed)
    assert augmented(texts, tokenizer, near, 0.0, seed) == texts


def test_the_teachers_label_them(
    labelled_sets: Callable[[], dict[str, Path]], tiny_encoder: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    settings = TrainSettings(
        **labelled_sets(),
        encoder=tiny_encoder,
        out=tmp_path / "out",
        events=False,
        epochs=1,
        dev_share=0.2,
        max_tokens=32,
        tfidf_share=0.0,
        teachers=(tiny_weights,),
        augmented=0.5,
        threads=1,
    )
    rows = len(read_training_sets(settings).texts)
    said: list[str] = []
    train(settings, said.append)
    assert any(line.endswith(f" reads {2 * rows} texts") for line in said)
    assert any(line.startswith(f"{2 * rows} rows, ") for line in said)
    assert json.loads((settings.out / "run.json").read_text())["sets"]["train augmented"]["rows"] == rows
    with pytest.raises(ValueError, match="augmented needs teachers"):
        TrainSettings(augmented=0.5)
    with pytest.raises(ModelError, match="no table of word embeddings"):
        with_augmented(read_training_sets(settings), load_tokenizer(tiny_encoder, 32), {}, 0.5, 1)
