"""Training batches: texts of similar length together, some of them perturbed, a share of their words masked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.data import UNLABELLED
from model.errors import ModelError
from model.perturb import perturb

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from model.data import Labelled

_BUCKET_BATCHES = 50  # sort by length within this many batches: little padding, still random


class Batch(NamedTuple):
    """n texts of at most t tokens, with what each is to be."""

    input_ids: Tensor  # (n, t) int64
    attention_mask: Tensor  # (n, t) int64
    sentiment: Tensor  # (n, conventions) int64; UNLABELLED in the heads whose convention the label is not of
    topic: Tensor  # (n,) int64; UNLABELLED
    topic_weight: Tensor  # (n,) float32: how much the topic's label counts beside the sentiment's
    weight: Tensor  # (n,) float32
    taught: Tensor  # (n,) float32: 1 where the teacher's probabilities count, else 0
    soft_sentiment: Tensor  # (n, conventions, labels) float32 of the teacher; zeros without one
    soft_topic: Tensor  # (n, labels) float32 of the teacher; zeros without one


@dataclass(frozen=True)
class Targets:
    """What n rows are to be: see `Batch`."""

    sentiment: NDArray[np.int64]
    topic: NDArray[np.int64]
    topic_weight: NDArray[np.float32]
    weight: NDArray[np.float32]
    taught: NDArray[np.float32]
    soft_sentiment: NDArray[np.float32]
    soft_topic: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.topic)


@dataclass(frozen=True)
class Tokens:
    """n tokenised texts."""

    ids: list[NDArray[np.int64]]
    words: list[NDArray[np.int64]]  # the word each token belongs to; -1 for the special tokens
    mask_id: int  # the unknown word's where the encoder knows no mask; -1 without either
    pad_id: int


def hard_targets(sets: Sequence[Labelled], conventions: Sequence[str], labels: int, topics: int) -> Targets:
    """Targets of the sets' rows, one set after the other, without a teacher.

    A sentiment trains the head of its set's convention; that of a set which is no convention trains all heads.
    """
    n = sum(map(len, sets))
    sentiment = np.full((n, len(conventions)), UNLABELLED, np.int64)
    start = 0
    for data in sets:
        heads = [conventions.index(data.name)] if data.name in conventions else list(range(len(conventions)))
        sentiment[start : start + len(data), heads] = np.array(data.sentiment)[:, None]
        start += len(data)
    return Targets(
        sentiment,
        np.array([target for data in sets for target in data.topic], np.int64),
        np.array([data.topic_weight for data in sets for _ in data.texts], np.float32),
        np.array([weight for data in sets for weight in data.weight], np.float32),
        np.zeros(n, np.float32),
        np.zeros((n, len(conventions), labels), np.float32),
        np.zeros((n, topics), np.float32),
    )


def tokenise(tokenizer: Tokenizer, texts: Sequence[str]) -> Tokens:
    """The texts as tokens."""
    encodings = tokenizer.encode_batch(list(texts))
    mask_id = _special(tokenizer, "[MASK]", "<mask>", "[UNK]", "<unk>")
    return Tokens(
        ids=[np.array(e.ids) for e in encodings],
        words=[np.array([-1 if word is None else word for word in e.word_ids]) for e in encodings],
        mask_id=-1 if mask_id is None else mask_id,
        pad_id=_special(tokenizer, "[PAD]", "<pad>") or 0,
    )


def training_batches(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    targets: Targets,
    size: int,
    rng: np.random.Generator,
    *,
    perturbed: float = 0.0,
    masked: float = 0.0,
) -> Iterator[Batch]:
    """One epoch in random order; every row once.

    Args:
        tokenizer: Of the encoder.
        texts: n texts.
        targets: n targets.
        size: Texts a batch.
        rng: Of all choices.
        perturbed: Share of the texts that are perturbed (`model.perturb`).
        masked: Share of the words that are hidden, whole.

    Raises:
        ModelError: words are to be hidden, but the tokenizer has no token to put in their place.
    """
    changed = rng.random(len(texts)) < perturbed
    seen = [perturb(text, rng) if hit else text for text, hit in zip(texts, changed, strict=True)]
    tokens = tokenise(tokenizer, seen)
    if masked and tokens.mask_id < 0:
        raise ModelError("the encoder's tokenizer has no mask token and no unknown word: set masked_words to 0")
    order = rng.permutation(len(tokens.ids))
    chunk = size * _BUCKET_BATCHES
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(order), chunk):
        rows = order[start : start + chunk]
        rows = rows[np.argsort([len(tokens.ids[i]) for i in rows], kind="stable")]
        batches += [rows[i : i + size] for i in range(0, len(rows), size)]
    for index in rng.permutation(len(batches)):
        yield _batch(tokens, targets, batches[index], masked, rng)


def plain_batches(tokens: Tokens, size: int) -> Iterator[tuple[NDArray[np.int64], Tensor, Tensor]]:
    """(rows, input_ids, attention_mask) of all texts in the order of their length, nothing masked."""
    order = np.argsort([len(ids) for ids in tokens.ids], kind="stable")
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        ids, mask = _pad(tokens, rows)
        yield rows, torch.from_numpy(ids), torch.from_numpy(mask)


def _batch(tokens: Tokens, targets: Targets, rows: NDArray[np.int64], masked: float, rng: np.random.Generator) -> Batch:
    ids, mask = _pad(tokens, rows)
    if masked:
        for line, i in enumerate(rows):
            words = tokens.words[i]
            hidden = rng.random(len(words) + 1)[words] < masked  # one draw a word: words are hidden whole
            ids[line, : len(words)][hidden & (words >= 0)] = tokens.mask_id
    parts = (ids, mask, *(getattr(targets, name)[rows] for name in Batch._fields[2:]))
    return Batch(*map(torch.from_numpy, parts))


def _pad(tokens: Tokens, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    longest = max(len(tokens.ids[i]) for i in rows)
    ids = np.full((len(rows), longest), tokens.pad_id, np.int64)
    mask = np.zeros_like(ids)
    for line, i in enumerate(rows):
        ids[line, : len(tokens.ids[i])] = tokens.ids[i]
        mask[line, : len(tokens.ids[i])] = 1
    return ids, mask


def _special(tokenizer: Tokenizer, *names: str) -> int | None:
    """The id of the first of the names that the tokenizer knows."""
    return next((found for found in map(tokenizer.token_to_id, names) if found is not None), None)
