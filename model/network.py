"""The network: a BERT-family encoder, mean pooling, a sentiment head for each labelling convention, a topic head."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from model.encoder import MINILM
from model.identity import MAX_TOKENS

TOPIC = "topic"  # the topic head's name beside the conventions'
SERVED = "served"  # the name of the temperature of the mean of the sentiment heads


class NetworkConfig(PreTrainedConfig):
    """What `config.json` beside the weights holds: labels, temperatures, the encoder's shape.

    Attributes:
        encoder: The encoder's own configuration, `model_type` included.
        sentiment_labels: Names of the sentiment heads' columns.
        topic_labels: Names of the topic head's columns.
        conventions: Names of the sentiment heads: one for each way the training sets were labelled.
        convention_weights: Share of each of them in what is served; equal shares when empty.
        temperature: Of each head, by its name.
        max_tokens: Tokens read of a text at once.
        encoder_sha256: Of the weights that were fine-tuned.
        encoder_name: Where those weights come from.
        weight_bits: Bits the encoder's matrices are rounded to on loading, alike on all devices; 0: none.
        version: Name of the weights.
    """

    model_type = "newsquake"

    def __init__(
        self,
        *,
        encoder: dict[str, Any] | None = None,
        sentiment_labels: tuple[str, ...] = (),
        topic_labels: tuple[str, ...] = (),
        conventions: tuple[str, ...] = (),
        convention_weights: tuple[float, ...] = (),
        temperature: dict[str, float] | None = None,
        max_tokens: int = MAX_TOKENS,
        dropout: float = 0.1,
        encoder_sha256: str = "",
        encoder_name: str = MINILM,
        weight_bits: int = 0,
        version: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.encoder = encoder or {}
        self.sentiment_labels = list(sentiment_labels)
        self.topic_labels = list(topic_labels)
        self.conventions = list(conventions)
        self.convention_weights = list(convention_weights)
        self.temperature = temperature or {}
        self.max_tokens = max_tokens
        self.dropout = dropout
        self.encoder_sha256 = encoder_sha256
        self.encoder_name = encoder_name
        self.weight_bits = weight_bits
        self.version = version


class Logits(NamedTuple):
    """float32 logits of n texts."""

    sentiment: Tensor  # (n, conventions, sentiment labels)
    topic: Tensor  # (n, topic labels)


class Network(PreTrainedModel):
    """One encoder, read once a text by all heads."""

    config_class = NetworkConfig

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        shape = dict(config.encoder)
        encoder = AutoConfig.for_model(shape.pop("model_type"), **shape)
        self.encoder = AutoModel.from_config(encoder)
        if getattr(self.encoder, "pooler", None) is not None:
            self.encoder.pooler = None  # we pool by the mean
        self.dropout = nn.Dropout(config.dropout)
        self.sentiment = _head(encoder.hidden_size, len(config.conventions) * len(config.sentiment_labels))
        self.topic = _head(encoder.hidden_size, len(config.topic_labels))
        # Ours is `model.loss`, but without a known name transformers warns.
        self.loss_type = self.encoder.loss_type = "ForSequenceClassification"
        self.post_init()  # type: ignore[no-untyped-call]  # of transformers, which leaves it untyped

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Logits:
        """Logits of `input_ids` (n, t), int64, padded where `attention_mask` (n, t) is 0."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # (n, t, h)
        return self.heads(hidden, attention_mask)

    def heads(self, hidden: Tensor, attention_mask: Tensor) -> Logits:
        """Logits from the encoder's last hidden states (n, t, h)."""
        with torch.autocast(hidden.device.type, enabled=False):  # pooling and heads cost nothing in full precision
            pooled = self.dropout(mean_pool(hidden, attention_mask))  # (n, h)
            sentiment = self.sentiment(pooled)
            return Logits(
                sentiment.view(sentiment.shape[0], len(self.config.conventions), len(self.config.sentiment_labels)),
                self.topic(pooled),
            )

    def probabilities(self, logits: Logits) -> tuple[Tensor, Tensor]:
        """Calibrated probabilities: sentiment (n, labels), the mean over the conventions; topic (n, labels).

        The mean of heads that differ is less sure than it may be (Rahaman and Thiery 2021, Uncertainty Quantification
        and Deep Ensembles), so it has a temperature of its own.
        """
        sentiment, topic = self.head_probabilities(logits)
        shares = self.config.convention_weights or [1 / len(self.config.conventions)] * len(self.config.conventions)
        weights = torch.tensor(shares, device=sentiment.device).view(1, -1, 1)
        mean = (sentiment * weights).sum(1)
        return (mean.clamp(min=1e-9).log() / self.config.temperature.get(SERVED, 1.0)).softmax(-1), topic

    def head_probabilities(self, logits: Logits) -> tuple[Tensor, Tensor]:
        """Calibrated probabilities of each head: sentiment (n, conventions, labels), topic (n, labels).

        Each head's logits are divided by its temperature (Guo et al. 2017, On Calibration of Modern Neural Networks).
        """
        heads = [self.config.temperature.get(name, 1.0) for name in self.config.conventions]
        temperature = torch.tensor(heads, device=logits.sentiment.device).view(1, -1, 1)
        sentiment = (logits.sentiment / temperature).softmax(-1)
        return sentiment, (logits.topic / self.config.temperature.get(TOPIC, 1.0)).softmax(-1)


def _head(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer; without outputs where the training data had no such labels."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
        return nn.Linear(inputs, outputs)


def mean_pool(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """The mean of `hidden` (n, t, h) over the tokens that are not padding, in float32: (n, h)."""
    mask = attention_mask.unsqueeze(-1).to(torch.float32)  # (n, t, 1)
    return (hidden.to(torch.float32) * mask).sum(1) / mask.sum(1).clamp(min=1)
