"""Low-rank adapters (Hu et al. 2021, LoRA) by peft: put into an encoder, and read out as the difference they make."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear as LoraLinear
from safetensors import safe_open
from torch import Tensor, nn

from model.network import Network
from model.weights import WEIGHTS, unpack

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


def on_top_of(folder: Path, factors: dict[str, Factors]) -> dict[str, Factors] | None:
    """The factors with those of the weights in the folder, which training started from.

    `None` where those weights are no low-rank difference: then nor is the sum.
    """
    with safe_open(folder / WEIGHTS, framework="pt") as stored:
        names = set(stored.keys())
        if any(name.startswith("encoder.") and ".up." not in name and ".down." not in name for name in names):
            return None
        both = {}
        for name, factor in factors.items():
            if f"{name}.up.q8" not in names:
                both[name] = factor
                continue
            up, down = (
                stored.get_tensor(f"{name}.{part}.q8").float() * stored.get_tensor(f"{name}.{part}.scale")[:, None]
                for part in ("up", "down")
            )
            both[name] = Factors(torch.cat((up, factor.up), 1), torch.cat((down.T, factor.down), 0))
    return both


def to_pack(network: Network, start: Path | None, encoder: Path | None) -> tuple[Network, dict[str, Factors] | None]:
    """What `model.weights.pack` gets of a network trained with adapters: low-rank factors wherever that is true."""
    factors = adapter_factors(network)
    if start is None:
        return network, factors
    both = on_top_of(start, factors)
    if both is not None:
        return network, both
    merged, _ = unpack(start, encoder)
    trained = network.state_dict()
    with torch.no_grad():
        for name, factor in factors.items():
            merged.get_parameter(name).add_(factor.up @ factor.down)
    whole = Network(network.config)  # type: ignore[arg-type]  # transformers types every model's `config` as its base class
    whole.load_state_dict(
        {name: trained[name].float().cpu() for name in whole.state_dict() if not name.startswith("encoder.")}
        | {f"encoder.{name}": tensor for name, tensor in merged.encoder.state_dict().items()}
    )
    return whole, None
