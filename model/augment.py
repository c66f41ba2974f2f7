"""Texts for teachers to label: training texts in which related words stand in place of some.

Jiao et al. 2020, TinyBERT: Distilling BERT for Natural Language Understanding, section 3.3, with the encoder's own word
embeddings in place of GloVe and of a language model's guesses. The texts say other things than those they were made of,
so they have no labels; on what it has learnt by heart a teacher has little new to say, on these it has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from model.data import unlabelled
from model.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from model.training_sets import TrainingSets

_WORD = re.compile(r"[A-Za-z]{3,}")
_NEIGHBOURS = 15
_CHUNK = 1_024


def with_augmented(
    sets: TrainingSets, tokenizer: Tokenizer, encoder: Mapping[str, Tensor], share: float, seed: int
) -> TrainingSets:
    """The sets with one more to learn from: a text made of each of theirs.

    Raises:
        ModelError: the encoder has no table of word embeddings.
    """
    table = next((tensor for name, tensor in encoder.items() if name.endswith("word_embeddings.weight")), None)
    if table is None:
        raise ModelError("the encoder has no table of word embeddings to find related words by: set augmented to 0")
    made = unlabelled("augmented", augmented(sets.texts, tokenizer, table, share, seed))
    return replace(sets, train=(*sets.train, made))


def augmented(texts: Sequence[str], tokenizer: Tokenizer, embeddings: Tensor, share: float, seed: int) -> list[str]:
    """A text of each of the n texts, with each word replaced with probability `share` where it has related ones.

    Args:
        texts: n texts.
        tokenizer: Of the encoder.
        embeddings: (vocabulary, h) of its tokens.
        share: 0 to 1.
        seed: Of all choices.
    """
    rng = np.random.default_rng(seed)
    related = _related({word.lower() for text in texts for word in _WORD.findall(text)}, tokenizer, embeddings)

    def other(found: re.Match[str]) -> str:
        word = found.group()
        choices = related.get(word.lower())
        if not choices or rng.random() >= share:
            return word
        new = choices[rng.integers(len(choices))]
        return new.upper() if word.isupper() else new.capitalize() if word[0].isupper() else new

    return [_WORD.sub(other, text) for text in texts]


def _related(words: set[str], tokenizer: Tokenizer, embeddings: Tensor) -> dict[str, list[str]]:
    """Of each word that is one token, the nearest others that are whole words in letters."""
    vocabulary = tokenizer.get_vocab()
    whole = {word: i for word, i in sorted(vocabulary.items()) if _WORD.fullmatch(word) and word.islower()}
    names, places = list(whole), torch.tensor(list(whole.values()), dtype=torch.long)
    table = normalize(embeddings[places].float(), dim=1)
    asked = [place for place, name in enumerate(names) if name in words]
    found = {}
    for start in range(0, len(asked), _CHUNK):
        rows = asked[start : start + _CHUNK]
        near = (table[rows] @ table.T).topk(min(_NEIGHBOURS + 1, len(names))).indices  # the word itself is the first
        for row, others in zip(rows, near.tolist(), strict=True):
            found[names[row]] = [names[i] for i in others if i != row][:_NEIGHBOURS]
    return found
