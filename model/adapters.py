"""Low-rank adapters (Hu et al. 2021, LoRA) by peft: put into an encoder, and read out as the difference they make."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear as LoraLinear
from safetensors import safe_open
from torch import Tensor, nn

from model.low_rank import Factors
from model.network import Network
from model.weights import WEIGHTS, stored_factors, unpack

_ALPHA = 32  # the step per rate is then much the same at every rank (Schulman et al. 2025, LoRA Without Regret)


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


def on_top_of(folder: Path, factors: dict[str, Factors]) -> dict[str, Factors] | None:
    """The factors with those of the weights in the folder, which training started from.

    `None` where those weights are no low-rank difference: then nor is the sum.
    """
    with safe_open(folder / WEIGHTS, framework="pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - it is no dict
    if any(name in tensors or f"{name}.q4" in tensors for name in factors):
        return None
    both = {}
    for name, factor in factors.items():
        before = stored_factors(name, tensors, (len(factor.up), factor.down.shape[1]))
        both[name] = (
            Factors(torch.cat((before.up, factor.up), 1), torch.cat((before.down, factor.down), 0))
            if before
            else factor
        )
    return both


@torch.no_grad()
def to_pack(
    network: Network, encoder: Mapping[str, Tensor], start: Path | None, folder: Path | None
) -> tuple[Network, dict[str, Factors] | None]:
    """What `model.weights.pack` gets of a network trained with adapters: low-rank factors wherever that is true.

    Args:
        network: With adapters.
        encoder: The encoder's own weights.
        start: The weights that training started from, if not from the encoder itself.
        folder: Their encoder's files.
    """
    factors = adapter_factors(network)
    state = unpack(start, folder)[0].encoder.state_dict() if start else dict(encoder)
    whole = Network(network.config)  # type: ignore[arg-type]  # transformers types every model's `config` as its base class
    trained = network.state_dict()
    whole.load_state_dict(
        {
            name: state[name.removeprefix("encoder.")] if name.startswith("encoder.") else trained[name].float().cpu()
            for name in whole.state_dict()
        }
    )
    for name, factor in factors.items():
        whole.get_parameter(name).add_(factor.up @ factor.down)
    return whole, on_top_of(start, factors) if start else factors
