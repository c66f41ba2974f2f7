"""Integrated gradients (Sundararajan et al. 2017, Axiomatic Attribution for Deep Networks) on the word embeddings.

The path leads from the text with each token masked to the text; a word's weight is the sum over its tokens. The weights
of all tokens sum up to the difference in log odds between the two ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.device import pick_device
from model.encoder import encoder_folder, load_tokenizer
from model.errors import ModelError
from model.identity import CONFIG, weights_folder
from model.network import NetworkConfig
from model.weights import unpack

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

    from model.explain import Head
    from model.settings import ModelSettings
    from model.show import Part

_STEPS = 24  # with 16 the ranks are the same within 0.02 of Spearman's rho
_MASKS = ("[MASK]", "<mask>")


class Gradients:
    """The network in float32, and its tokenizer. One call at a time."""

    def __init__(self, settings: ModelSettings) -> None:
        """Raises `ModelError` when captum, the weights or the encoder are missing."""
        try:
            from captum.attr import LayerIntegratedGradients
        except ModuleNotFoundError as exc:
            raise ModelError(f"{exc.name} is not installed: pip install 'newsquake[model]'") from exc
        self._device = pick_device(settings.device.split(",")[0])
        self._network, _ = unpack(weights_folder(settings), settings.encoder)
        torch.nn.Module.to(self._network, self._device)
        self._network.requires_grad_(False)
        self._tokenizer = load_tokenizer(
            encoder_folder(settings.encoder, self._network.config.encoder_name),
            settings.max_tokens or self._network.config.max_tokens,
        )
        self._method = LayerIntegratedGradients(self._log_odds, self._network.encoder.get_input_embeddings())
        self._mask_id = next((i for i in map(self._tokenizer.token_to_id, _MASKS) if i is not None), 0)

    def weigh(self, parts: Sequence[Part], head: Head) -> list[NDArray[np.float64]]:
        """The weight of each word of each part, in bits of log odds."""
        return [self._weigh(part, head) for part in parts]

    def _weigh(self, part: Part, head: Head) -> NDArray[np.float64]:
        encoding = self._tokenizer.encode(part.text)
        ids = torch.tensor([encoding.ids], device=self._device)  # (1, t)
        special = torch.tensor([encoding.special_tokens_mask], device=self._device, dtype=torch.bool)
        attributed = self._method.attribute(
            ids,
            baselines=torch.where(special, ids, self._mask_id),
            additional_forward_args=(torch.ones_like(ids), part.label, head),
            n_steps=_STEPS,
            internal_batch_size=_STEPS,
        )  # (1, t, h)
        return _by_word(encoding, attributed.sum(-1)[0].double().cpu().numpy(), part.words)

    def _log_odds(self, ids: Tensor, mask: Tensor, label: int, head: Head) -> Tensor:
        sentiment, topic = self._network.probabilities(self._network(ids, mask))
        chosen = (sentiment if head == "sentiment" else topic)[:, label].clamp(1e-6, 1 - 1e-6)
        return torch.log2(chosen / (1 - chosen))


def mask_token(settings: ModelSettings, *, plain: bool) -> str:
    """The mask token of the network's tokenizer, or of `sentiment_model`'s when `plain`; empty when it has none."""
    if plain and settings.sentiment_model:
        from transformers import AutoTokenizer

        return str(AutoTokenizer.from_pretrained(settings.sentiment_model).mask_token or "")
    config = NetworkConfig.from_json_file(str(weights_folder(settings) / CONFIG))
    tokenizer: Tokenizer = load_tokenizer(encoder_folder(settings.encoder, config.encoder_name), config.max_tokens)
    return next((name for name in _MASKS if tokenizer.token_to_id(name) is not None), "")


def _by_word(encoding: Encoding, weights: NDArray[np.float64], words: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """Sums of the weights (t,) over the tokens that begin in each word; a token of punctuation is of no word."""
    found = np.zeros(len(words))
    starts = np.array([start for start, _ in words])
    for (begin, end), weight in zip(encoding.offsets, weights, strict=True):
        word = int(np.searchsorted(starts, begin, side="right")) - 1
        if end > begin and word >= 0 and begin < words[word][1]:
            found[word] += weight
    return found
