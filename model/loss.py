"""What training makes small: the labels' cross-entropy, and the distance from a teacher where there is one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from model.batches import Batch
from model.data import UNLABELLED
from model.network import Logits

_UNLABELLED_HEAD = 0.5  # a teacher's word counts less in a head that has no label to correct it


def loss(
    logits: Logits,
    batch: Batch,
    *,
    smoothing: float = 0.0,
    taught_share: float = 0.5,
    sentiment_weight: Tensor | None = None,
    topic_weight: Tensor | None = None,
    total_weight: Tensor | None = None,
) -> Tensor:
    """The weighted mean over the batch's rows.

    A row's loss is the cross-entropy of its labels: the mean over the sentiment heads that it labels, plus the topic's,
    weighed. Where it is taught, that counts 1 - `taught_share`, and the cross-entropy with the teacher's probabilities,
    in full in the heads that it labels and by half in the others, the rest (Hinton et al. 2015, Distilling the
    Knowledge in a Neural Network, at temperature 1).

    Args:
        logits: Of the batch.
        batch: n rows.
        smoothing: Probability mass moved from each label to all labels.
        taught_share: The teacher's share.
        sentiment_weight: (labels,) weights of the classes.
        topic_weight: (labels,) weights of the classes.
        total_weight: Of the rows of the whole batch where this is a part of it: the parts' losses then add up to the
            batch's.
    """
    n, heads, labels = logits.sentiment.shape
    flat = _hard(
        logits.sentiment.reshape(n * heads, labels), batch.sentiment.reshape(n * heads), sentiment_weight, smoothing
    )
    labelled = (batch.sentiment != UNLABELLED).float()  # (n, heads)
    hard = (flat.view(n, heads)).sum(1) / labelled.sum(1).clamp(min=1)
    hard = hard + batch.topic_weight * _hard(logits.topic, batch.topic, topic_weight, smoothing)
    weight = batch.weight
    total = (weight.sum() if total_weight is None else total_weight).clamp(min=1e-6)
    if not batch.taught.any():
        return (weight * hard).sum() / total
    counts = torch.where(labelled > 0, 1.0, _UNLABELLED_HEAD)  # (n, heads)
    soft = -(batch.soft_sentiment * logits.sentiment.log_softmax(-1)).sum(-1)  # (n, heads)
    soft_row = (soft * counts).sum(1) / labelled.sum(1).clamp(min=1)
    topic_counts = torch.where(batch.topic != UNLABELLED, 1.0, _UNLABELLED_HEAD)
    soft_row = soft_row - topic_counts * (batch.soft_topic * logits.topic.log_softmax(-1)).sum(-1)
    share = taught_share * batch.taught  # (n,)
    share = torch.where((labelled.sum(1) == 0) & (batch.topic == UNLABELLED), batch.taught, share)
    return (weight * ((1 - share) * hard + share * soft_row)).sum() / total


def _hard(logits: Tensor, target: Tensor, weight: Tensor | None, smoothing: float) -> Tensor:
    """(n,) cross-entropies, 0 where there is no label; a head without any label has logits (n, 0)."""
    if not logits.shape[-1]:
        return logits.sum(-1)
    return F.cross_entropy(
        logits, target, weight=weight, ignore_index=UNLABELLED, reduction="none", label_smoothing=smoothing
    )


def class_weights(targets: Tensor, labels: int, power: float) -> Tensor:
    """(labels,) weights by `(n / (labels * count)) ** power`, of mean 1 over the rows; power 0 weighs all alike."""
    counts = torch.bincount(targets[targets != UNLABELLED].flatten(), minlength=labels).float()
    weights = (counts.sum() / (labels * counts.clamp(min=1))) ** power
    return weights * counts.sum() / (weights * counts).sum().clamp(min=1e-6)
