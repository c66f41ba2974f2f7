"""How the encoder sees texts: which words its tokenizer never learnt, and where in its space they lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.errors import ModelError
from model.settings import ModelSettings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from model.reading import Reader

_PIECES = 4  # a word in so many pieces or more is one that the tokenizer never learnt
_UNKNOWN = ("[UNK]", "<unk>")


class Words(NamedTuple):
    """Counts of n texts, (n,) each."""

    tokens: NDArray[np.int64]  # without the special tokens at the ends
    unknown: NDArray[np.int64]  # tokens that stand for what is not in the vocabulary
    words: NDArray[np.int64]
    split: NDArray[np.int64]  # words in four pieces or more


class View:
    """The encoder of the present weights and its tokenizer."""

    def __init__(self, reader: Reader, tokenizer: Tokenizer) -> None:
        self._reader = reader
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, settings: ModelSettings) -> View:
        """The encoder of the weights that the settings name; raises `ModelError`."""
        try:
            from model.device import pick_device
            from model.encoder import encoder_folder, load_tokenizer
            from model.identity import weights_folder
            from model.reading import Reader
            from model.weights import unpack
        except ModuleNotFoundError as exc:
            raise ModelError(f"{exc.name} is not installed: pip install 'newsquake[model]'") from exc
        network, _ = unpack(weights_folder(settings), settings.encoder)
        folder = encoder_folder(settings.encoder, network.config.encoder_name)
        tokenizer = load_tokenizer(folder, settings.max_tokens or network.config.max_tokens)
        return cls(Reader(network, tokenizer, pick_device(settings.device.split(",")[0])), tokenizer)

    def words(self, texts: Sequence[str]) -> Words:
        """How well the tokenizer knows the words of each text."""
        ids = [self._tokenizer.token_to_id(name) for name in _UNKNOWN]
        unknown = {found for found in ids if found is not None}
        counts = np.zeros((4, len(texts)), np.int64)
        for place, encoding in enumerate(self._tokenizer.encode_batch(list(texts))):
            words = [word for word in encoding.word_ids if word is not None]
            pieces = np.bincount(words) if words else np.zeros(0, np.int64)
            missed = sum(token in unknown for token in encoding.ids)
            counts[:, place] = len(words), missed, (pieces > 0).sum(), (pieces >= _PIECES).sum()
        return Words(*counts)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The mean of the encoder's last hidden states over each text's tokens, as the heads see it: (n, h)."""
        return self._reader.read(texts).pooled
