"""The network before its first step: an encoder with new heads, or weights to go on from, with or without adapters."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from model.device import has_bfloat16, pick_device
from model.encoder import SHA256, encoder_folder, load_encoder, weights_sha256
from model.errors import ModelError
from model.label_file import EVENTS_NAME
from model.network import Network, NetworkConfig
from model.settings import TrainSettings
from model.training_sets import TrainingSets
from model.weights import unpack

log = logging.getLogger(__name__)


def start_network(settings: TrainSettings, sets: TrainingSets) -> tuple[Network, dict[str, Tensor]]:
    """The network that is trained and the encoder it is packed against; raises `ModelError`."""
    folder = encoder_folder(settings.encoder, settings.encoder_name)
    pinned = SHA256.get(settings.encoder_name, "") if settings.encoder is None else ""
    shape, encoder = load_encoder(folder, pinned)
    torch.manual_seed(settings.seed)  # all of what is random here: heads and adapters
    network = _bare_network(settings, sets, shape, weights_sha256(folder))
    missing = network.encoder.state_dict().keys() - encoder.keys()
    if missing:
        raise ModelError(
            f"{folder / 'model.safetensors'} lacks {len(missing)} tensors of its {shape.get('model_type')!r} encoder, "
            f"such as {min(missing)}: it holds another model than its config.json says"
        )
    network.encoder.load_state_dict({name: encoder[name] for name in network.encoder.state_dict()})
    if settings.start:
        _start_from(network, settings, settings.start)
    if settings.adapter_rank:
        from model.adapters import add_adapters

        bfloat16 = has_bfloat16(torch.device(pick_device("auto")).type)
        add_adapters(network, encoder, settings.adapter_rank, settings.start, bfloat16=bfloat16)
    return network, encoder


@torch.no_grad()
def mean_with(network: Network, start: Mapping[str, Tensor], share: float) -> None:
    """Let the network have this share of the tensors that it started with, where these are given.

    Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022: between two such networks lie better ones.
    """
    tensors = network.state_dict()
    for name, before in start.items():
        if before.is_floating_point():
            tensors[name].lerp_(before.to(tensors[name].device), share)


def _bare_network(settings: TrainSettings, sets: TrainingSets, shape: dict[str, object], sha256: str) -> Network:
    hidden_dropout = 0.0 if settings.adapter_rank else settings.dropout
    dropouts = {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": hidden_dropout}
    others = {"attention_dropout": 0.0, "dropout": hidden_dropout}  # as DistilBERT names them
    config = NetworkConfig(
        encoder=shape | dropouts | {name: value for name, value in others.items() if name in shape},
        sentiment_labels=sets.sentiment_labels,
        topic_labels=sets.topic_labels,
        conventions=sets.conventions,
        convention_weights=_shares(sets.conventions, settings.events_share),
        max_tokens=settings.max_tokens,
        dropout=settings.dropout,
        encoder_sha256=sha256,
        encoder_name=settings.encoder_name,
        weight_bits=settings.weight_bits,
        version=settings.version,
    )
    try:
        network = Network(config)
    except (KeyError, ValueError, TypeError, AttributeError) as exc:
        raise ModelError(
            f"the encoder {settings.encoder or settings.encoder_name} is of a kind that cannot be trained here "
            f"({exc}): take one of BERT's family"
        ) from exc
    positions = _positions(network)
    if positions is not None and settings.max_tokens > positions:
        raise ModelError(f"max_tokens is {settings.max_tokens}, but the encoder reads {positions} tokens at most")
    return network


def _shares(conventions: tuple[str, ...], of_events: float) -> tuple[float, ...]:
    """How much each sentiment head counts in what is served; empty: alike."""
    if EVENTS_NAME not in conventions:
        return ()
    others = (1 - of_events) / (len(conventions) - 1)
    return tuple(of_events if name == EVENTS_NAME else others for name in conventions)


def _positions(network: Network) -> int | None:
    """How many tokens the encoder has positions for; `None` where it does not count them."""
    table = getattr(getattr(network.encoder, "embeddings", None), "position_embeddings", None)
    if not isinstance(table, torch.nn.Embedding):
        return None
    before = 0 if table.padding_idx is None else table.padding_idx + 1  # RoBERTa's first position follows padding's
    return table.num_embeddings - before


def _start_from(network: Network, settings: TrainSettings, folder: Path) -> None:
    """Take over the encoder, and the heads whose names and labels are the same."""
    given, version = unpack(folder, settings.encoder)
    if given.config.encoder_sha256 != network.config.encoder_sha256:
        raise ModelError(f"the weights in {folder} are of another encoder ({given.config.encoder_name}): name that one")
    labels_of = "topic_labels", "sentiment_labels"
    if settings.start_share and any(getattr(given.config, of) != getattr(network.config, of) for of in labels_of):
        raise ModelError(f"the weights in {folder} have other labels: their mean with new heads means nothing")
    network.encoder.load_state_dict(given.encoder.state_dict())
    if given.config.topic_labels == network.config.topic_labels:
        network.topic.load_state_dict(given.topic.state_dict())
    if given.config.sentiment_labels == network.config.sentiment_labels:
        labels = len(network.config.sentiment_labels)
        ours = network.sentiment.weight.data.view(-1, labels, network.sentiment.in_features)
        bias = network.sentiment.bias.data.view(-1, labels)
        theirs = given.sentiment.weight.data.view(-1, labels, network.sentiment.in_features)
        for place, name in enumerate(network.config.conventions):  # a new convention starts as the mean of the known
            known = [i for i, own in enumerate(given.config.conventions) if own == name] or slice(None)
            ours[place] = theirs[known].mean(0)
            bias[place] = given.sentiment.bias.data.view(-1, labels)[known].mean(0)
    log.info("going on from the weights %s", version)
