"""Low-rank adapters (Hu et al. 2021, LoRA) by peft: put into an encoder, and read out as the difference they make."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear as LoraLinear
from safetensors import safe_open
from torch import Tensor, nn

from model.identity import WEIGHTS
from model.low_rank import Factors
from model.network import Network
from model.weights import stored_factors, unpack

_ALPHA = 32  # the step per rate is then much the same at every rank (Schulman et al. 2025, LoRA Without Regret)


@torch.no_grad()
def add_adapters(
    network: Network, encoder: Mapping[str, Tensor], rank: int, start: Path | None, *, bfloat16: bool
) -> None:
    """Freeze the encoder and put an adapter beside each of its matrices, which are then kept in bfloat16 if asked.

    Where `start`, the weights that the network has, holds differences of low rank, the adapters are those differences,
    at their ranks, beside the encoder's own matrices.
    """
    linear = [name for name, module in network.encoder.named_modules() if isinstance(module, nn.Linear)]
    network.encoder.requires_grad_(False)
    known = start_factors(start, network) if start else {}
    ranks = {name.removeprefix("encoder.").removesuffix(".weight"): len(each.down) for name, each in known.items()}
    config = LoraConfig(r=rank, rank_pattern=ranks, lora_alpha=_ALPHA, target_modules=linear)
    inject_adapter_in_model(config, network.encoder)
    for name, module in network.named_modules():
        if isinstance(module, LoraLinear):
            matrix: Tensor = module.get_parameter("base_layer.weight")
            if known:
                matrix.copy_(encoder[f"{name.removeprefix('encoder.')}.weight"])
            if factor := known.get(f"{name}.weight"):
                module.get_parameter("lora_A.default.weight").copy_(factor.down)
                module.get_parameter("lora_B.default.weight").copy_(factor.up / module.scaling["default"])
            if bfloat16:  # or each step would round them again
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


def start_factors(folder: Path, network: Network) -> dict[str, Factors]:
    """The low-rank differences that the weights in the folder hold, by the matrix's name in the network."""
    with safe_open(folder / WEIGHTS, framework="pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - it is no dict
    found = {
        name: stored_factors(name, tensors, (matrix.shape[0], matrix.shape[1]))
        for name, matrix in network.named_parameters()
        if matrix.ndim == 2
    }
    return {name: factor for name, factor in found.items() if factor}


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
    whole = Network(network.config)  # type: ignore[arg-type]  # transformers types every model's `config` as its base class
    before = unpack(start, folder)[0].encoder.state_dict() if start else dict(encoder)
    low = not start or bool(start_factors(start, whole))
    trained = network.state_dict()
    state = {}
    for name in whole.state_dict():
        own = name.removeprefix("encoder.")
        if not name.startswith("encoder."):
            state[name] = trained[name].float().cpu()
        else:
            state[name] = encoder[own] if low and name in factors else before[own]
    whole.load_state_dict(state)
    for name, factor in factors.items():
        whole.get_parameter(name).add_(factor.up @ factor.down)
    return whole, factors if low else None
