"""Training batches: texts of similar length together, a share of the words masked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from model.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from model.data import Labelled

_BUCKET_BATCHES = 50  # sort by length within this many batches: little padding, still random


class Batch(NamedTuple):
    """n texts of at most t tokens."""

    input_ids: Tensor  # (n, t) int64
    attention_mask: Tensor  # (n, t) int64
    head: Tensor  # (n,) which head the label belongs to
    target: Tensor  # (n,) the label


@dataclass(frozen=True)
class Examples:
    """Tokenised rows of all sets: `head[i]` is the place of row i's set among the sets given."""

    ids: list[NDArray[np.int64]]
    words: list[NDArray[np.int64]]  # the word each token belongs to; -1 for [CLS] and [SEP]
    head: NDArray[np.int64]
    target: NDArray[np.int64]
    mask_id: int

    def __len__(self) -> int:
        return len(self.ids)


def tokenise(tokenizer: Tokenizer, sets: Sequence[Labelled]) -> Examples:
    """The rows of all sets, one after the other, as tokens."""
    encodings = [e for data in sets for e in tokenizer.encode_batch(list(data.texts))]
    return Examples(
        ids=[np.array(e.ids) for e in encodings],
        words=[np.array([-1 if word is None else word for word in e.word_ids]) for e in encodings],
        head=np.repeat(np.arange(len(sets)), [len(data) for data in sets]),
        target=np.array([target for data in sets for target in data.targets]),
        mask_id=_mask_id(tokenizer),
    )


def _mask_id(tokenizer: Tokenizer) -> int:
    mask_id = tokenizer.token_to_id("[MASK]")
    if mask_id is None:
        raise ModelError("the encoder's tokenizer has no [MASK]: it is not the pinned encoder's")
    return mask_id


def training_batches(examples: Examples, size: int, masked_share: float, rng: np.random.Generator) -> Iterator[Batch]:
    """One epoch in random order; every row once."""
    order = rng.permutation(len(examples))
    chunk = size * _BUCKET_BATCHES
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(order), chunk):
        rows = order[start : start + chunk]
        rows = rows[np.argsort([len(examples.ids[i]) for i in rows], kind="stable")]
        batches += [rows[i : i + size] for i in range(0, len(rows), size)]
    for index in rng.permutation(len(batches)):
        yield _batch(examples, batches[index], masked_share, rng)


def plain_batches(examples: Examples, size: int) -> Iterator[Batch]:
    """All rows in the order of their length, nothing masked."""
    order = np.argsort([len(ids) for ids in examples.ids], kind="stable")
    for start in range(0, len(order), size):
        yield _batch(examples, order[start : start + size], 0, None)


def _batch(examples: Examples, rows: NDArray[np.int64], masked_share: float, rng: np.random.Generator | None) -> Batch:
    longest = max(len(examples.ids[i]) for i in rows)
    ids = np.zeros((len(rows), longest), np.int64)
    mask = np.zeros_like(ids)
    for line, i in enumerate(rows):
        length = len(examples.ids[i])
        ids[line, :length] = examples.ids[i]
        mask[line, :length] = 1
        if rng is not None and masked_share:
            words = examples.words[i]
            hidden = rng.random(length + 1)[words] < masked_share  # one draw a word: words are hidden whole
            ids[line, :length][hidden & (words >= 0)] = examples.mask_id
    return Batch(_tensor(ids), _tensor(mask), _tensor(examples.head[rows]), _tensor(examples.target[rows]))


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(array)
