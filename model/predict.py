"""What a network says of texts outside of serving: for dev scores, calibration and teaching."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from model.batches import Targets, plain_batches, tokenise
from model.data import UNLABELLED
from model.device import has_bfloat16
from model.network import TOPIC, Logits, Network

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BATCH = 64


@torch.inference_mode()
def predict(
    network: Network, tokenizer: Tokenizer, texts: Sequence[str], on_rows: Callable[[int], None] | None = None
) -> Logits:
    """Logits of n texts, in their order, on the CPU; `on_rows` hears how many are done. Ends in evaluation mode."""
    network.train(mode=False)
    device = next(network.parameters()).device
    config = network.config
    sentiment = torch.empty(len(texts), len(config.conventions), len(config.sentiment_labels))
    topic = torch.empty(len(texts), len(config.topic_labels))
    done = 0
    for rows, ids, mask in plain_batches(tokenise(tokenizer, texts), _BATCH):
        with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device.type)):
            logits = network(ids.to(device), mask.to(device))
        sentiment[rows], topic[rows] = logits.sentiment.float().cpu(), logits.topic.float().cpu()
        done += len(rows)
        if on_rows:
            on_rows(done)
    return Logits(sentiment, topic)


def dev_scores(logits: Logits, targets: Targets, conventions: Sequence[str]) -> dict[str, float]:
    """Macro F1 of each head on the rows it has labels for, and `dev`, their mean."""
    from sklearn.metrics import f1_score

    scores = {}
    for name, own, target in heads(logits, targets, conventions):
        rows = target != UNLABELLED
        if rows.any():
            found = f1_score(target[rows], own[rows].argmax(-1), average="macro", zero_division=0.0)
            scores[name] = round(float(found), 5)
    return {"dev": round(float(np.mean(list(scores.values()))), 5), **scores}


def held_out_scores(logits: Logits, targets: Targets, conventions: Sequence[str]) -> dict[str, float]:
    """Accuracy and macro F1 of each head on the rows it has labels for."""
    from sklearn.metrics import f1_score

    scores = {}
    for name, own, target in heads(logits, targets, conventions):
        rows = target != UNLABELLED
        if rows.any():
            said, truth = own[rows].argmax(-1), target[rows]
            scores[f"{name} accuracy"] = round(float((said == truth).float().mean()), 5)
            scores[f"{name} macro F1"] = round(float(f1_score(truth, said, average="macro", zero_division=0.0)), 5)
    return scores


def heads(logits: Logits, targets: Targets, conventions: Sequence[str]) -> list[tuple[str, Tensor, Tensor]]:
    """(name, logits (n, labels), labels (n,)) of each head."""
    sentiment = [
        (name, logits.sentiment[:, place], torch.from_numpy(targets.sentiment[:, place]))
        for place, name in enumerate(conventions)
    ]
    return [*sentiment, (TOPIC, logits.topic, torch.from_numpy(targets.topic))]
