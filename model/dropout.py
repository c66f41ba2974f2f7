"""Dropout for CPUs: masks are slices of one drawn before, since drawing them takes a third of a training step there."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

_MASKS = 2**23  # more than a layer of 64 texts of 96 tokens and 1,024 values needs


class SlicedDropout(nn.Module):
    """As `nn.Dropout`, with a slice of `masks` that begins at a random place."""

    def __init__(self, share: float, masks: Tensor) -> None:
        super().__init__()
        self.share, self._masks = share, masks  # no buffer: it is not part of the network's state

    def forward(self, values: Tensor) -> Tensor:
        """`values` of any shape; larger ones than the masks are dropped as torch does it."""
        if not self.training:
            return values
        size = values.numel()
        if size >= len(self._masks):
            return F.dropout(values, self.share)
        start = int(torch.randint(len(self._masks) - size, (1,)))
        return values * self._masks[start : start + size].view(values.shape)


def slice_dropout(network: nn.Module) -> None:
    """Put `SlicedDropout` in the place of every dropout of the network that drops anything."""
    masks: dict[float, Tensor] = {}
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout) and child.p:
                if child.p not in masks:
                    masks[child.p] = F.dropout(torch.ones(_MASKS), child.p).to(torch.bfloat16)
                setattr(module, name, SlicedDropout(child.p, masks[child.p]))
