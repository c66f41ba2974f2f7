"""What a network says of texts before heads are averaged and temperatures applied, and how it represents them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model.text import clean

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from model.network import Network
    from model.settings import ModelSettings

_BATCH = 64


@dataclass(frozen=True)
class Reading:
    """Of n texts, each read up to the tokens that the weights were trained on.

    Attributes:
        heads: Probabilities (n, conventions, sentiment labels) of each sentiment head at its temperature.
        raw_heads: The same at temperature 1.
        sentiment: (n, sentiment labels) at temperature 1, the mean of the heads.
        topic: (n, topic labels) at temperature 1.
        pooled: (n, hidden) what the heads see of a text.
    """

    heads: NDArray[np.float32]
    raw_heads: NDArray[np.float32]
    sentiment: NDArray[np.float32]
    topic: NDArray[np.float32]
    pooled: NDArray[np.float32]


class Reader:
    """The network behind a scorer, in torch."""

    def __init__(self, network: Network, tokenizer: Tokenizer, device: str) -> None:
        import torch

        from model.device import has_bfloat16

        self._network = network
        torch.nn.Module.to(network, device)
        if has_bfloat16(torch.device(device).type):  # pooling and heads stay in float32
            torch.nn.Module.to(network.encoder, torch.bfloat16)
        self._tokenizer = tokenizer
        self._device = device
        self.conventions = tuple(network.config.conventions)
        self.sentiment_labels = tuple(network.config.sentiment_labels)
        self.topic_labels = tuple(network.config.topic_labels)

    @classmethod
    def load(cls, settings: ModelSettings) -> Reader:
        """The network that a scorer of these settings serves; raises `ModelError`."""
        from model.device import pick_device
        from model.encoder import encoder_folder, load_tokenizer
        from model.identity import weights_folder
        from model.weights import unpack

        network, _ = unpack(weights_folder(settings), settings.encoder)
        config = network.config
        tokenizer = load_tokenizer(encoder_folder(settings.encoder, config.encoder_name), config.max_tokens)
        return cls(network, tokenizer, pick_device(settings.device.split(",")[0]))

    def read(self, texts: Sequence[str], progress: Callable[[int], None] = lambda _: None) -> Reading:
        """Read n texts; `progress` is told how many are done."""
        import torch

        from model.batches import plain_batches, tokenise
        from model.network import mean_pool

        network = self._network
        tokens = tokenise(self._tokenizer, [clean(text) for text in texts])
        calm = network.config.temperature
        parts: list[tuple[NDArray[np.int64], list[torch.Tensor]]] = []
        done = 0
        with torch.inference_mode():
            for rows, ids, mask in plain_batches(tokens, _BATCH):
                ids, mask = ids.to(self._device), mask.to(self._device)  # noqa: PLW2901
                hidden = network.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
                logits = network.heads(hidden, mask)
                found = [network.head_probabilities(logits)[0]]
                network.config.temperature = {}
                found += [network.head_probabilities(logits)[0], *network.probabilities(logits)]
                network.config.temperature = calm
                parts.append((rows, [*found, mean_pool(hidden, mask)]))
                done += len(rows)
                progress(done)
        order = np.argsort(np.concatenate([rows for rows, _ in parts]))
        return Reading(
            *(np.concatenate([found[i].float().cpu().numpy() for _, found in parts])[order] for i in range(5))
        )
