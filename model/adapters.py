"""Low-rank adapters (Hu et al. 2021, LoRA) by peft: put into an encoder, and read out as the difference they make."""

from __future__ import annotations

from typing import NamedTuple

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

from model.network import Network

_ALPHA = 32  # the step per rate is then much the same at every rank (Schulman et al. 2025, LoRA Without Regret)


class Factors(NamedTuple):
    """The difference `up @ down` of a matrix (rows, columns)."""

    up: Tensor  # (rows, rank) float32
    down: Tensor  # (rank, columns) float32


def add_adapters(network: Network, rank: int, *, bfloat16: bool) -> None:
    """Freeze the encoder and put an adapter beside each of its matrices, which are then kept in bfloat16 if asked."""
    linear = [name for name, module in network.encoder.named_modules() if isinstance(module, nn.Linear)]
    network.encoder.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=_ALPHA, target_modules=linear), network.encoder)
    for module in network.encoder.modules():
        if isinstance(module, LoraLinear) and bfloat16:  # or each step would round them again
            module.get_base_layer().to(torch.bfloat16)


@torch.no_grad()
def adapter_factors(network: Network) -> dict[str, Factors]:
    """The adapters' factors by the name that the parameter has in a network without adapters."""
    return {
        f"{name}.weight": Factors(
            (module.lora_B["default"].weight * module.scaling["default"]).float().cpu(),
            torch.as_tensor(module.lora_A["default"].weight).float().cpu(),
        )
        for name, module in network.named_modules()
        if isinstance(module, LoraLinear)
    }
