"""Temperatures: one number a head that makes its probabilities mean what they say (Guo et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from model.batches import Targets
from model.data import UNLABELLED
from model.network import SERVED, Logits, Network
from model.predict import heads


def temperatures(logits: Logits, targets: Targets, conventions: Sequence[str]) -> dict[str, float]:
    """The temperature of each head with the least cross-entropy on n labelled rows; a head without rows has none."""
    found = {}
    for name, own, target in heads(logits, targets, conventions):
        rows = target != UNLABELLED
        if rows.any():
            found[name] = temperature(own[rows], target[rows])
    return found


def served_temperature(network: Network, logits: Logits, targets: Targets) -> float:
    """The temperature of the mean of the sentiment heads, whose own temperatures are set; 1 without labelled rows."""
    network.config.temperature.pop(SERVED, None)
    mean, _ = network.probabilities(logits)
    target = torch.from_numpy(targets.sentiment.max(1))  # each row's label, of whichever convention
    rows = target != UNLABELLED
    return temperature(mean.log()[rows], target[rows]) if rows.any() else 1.0


def temperature(logits: Tensor, target: Tensor) -> float:
    """The temperature with the least cross-entropy of `logits` (n, labels) on `target` (n,).

    >>> sure = torch.tensor([[9.0, 0.0]] * 4)
    >>> temperature(sure, torch.tensor([0, 0, 0, 1])) > 5
    True
    """
    candidates = np.geomspace(0.3, 12.0, 300)
    losses = [F.cross_entropy(logits / t, target).item() for t in candidates]
    return round(float(candidates[int(np.argmin(losses))]), 3)
