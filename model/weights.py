"""The weights file: what fine-tuning changed, in a few bits.

The encoder comes from its own package, so only the difference from it is kept. A matrix's difference is rounded to 4
bits (`model.rounding`); vectors and heads stay in float16. 22.7 M parameters take under 12 MB.
The file is safetensors; `<name>.q4` (rows, ceil(columns / 2)) uint8 holds two values a byte, the even column in the low
half, and `<name>.scale` (rows,) float16. Where the differences are of low rank, the transpose of `<name>.up` (rank,
rows) and `<name>.down` (rank, columns) are stored in the same way: one scale a component.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from model.encoder import encoder_folder, load_encoder
from model.errors import ModelError
from model.identity import CONFIG, WEIGHTS, version_of
from model.network import Network, NetworkConfig
from model.rounding import dequantise, quantise

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PreTrainedConfig

    from model.low_rank import Factors


def pack(
    network: Network,
    encoder: Mapping[str, Tensor],
    folder: Path,
    factors: Mapping[str, Factors] | None = None,
) -> int:
    """Write `config.json` and `weights.safetensors` into the folder; returns the bytes of the weights.

    `factors` are the differences that are of low rank; embeddings are then as the encoder has them.
    """
    from safetensors.torch import save

    from model.low_rank import balanced

    tensors: dict[str, Tensor] = {}
    for name, tensor in network.state_dict().items():
        value = tensor.detach().float().cpu()
        base = encoder.get(name.removeprefix("encoder."))
        if not name.startswith("encoder."):
            tensors[name] = value.half()
        elif factors is not None and (name in factors or (value.ndim == 2 and not _small(value))):
            continue
        elif base is None:
            raise ModelError(f"the encoder has no {name}: pack the network with the encoder it was trained from")
        elif value.ndim == 2 and not _small(value):
            tensors[f"{name}.q4"], tensors[f"{name}.scale"] = quantise(value - base.float())
        else:
            tensors[name] = (value - base.float()).half()
    for name, factor in (factors or {}).items():
        even = balanced(factor)
        gradients, inputs = even.moments or (None, None)
        for part, rows, moment in (("up", even.up.T, gradients), ("down", even.down, inputs)):
            tensors[f"{name}.{part}.q4"], tensors[f"{name}.{part}.scale"] = quantise(rows.contiguous(), moment)
    data = save(tensors)
    folder.mkdir(parents=True, exist_ok=True)
    write_config(network.config, folder)
    (folder / WEIGHTS).write_bytes(data)
    return len(data)


def write_config(config: PreTrainedConfig, folder: Path) -> None:
    """Write `config.json` into the folder."""
    (folder / CONFIG).write_text(config.to_json_string(), "utf-8")


def unpack(folder: Path, encoder: Path | None = None) -> tuple[Network, str]:
    """The network of the folder, in float32 on the CPU, and its version: name and 8 hex digits of the file's SHA-256.

    Raises `ModelError` when a file is missing or damaged, or the encoder is not the one that was fine-tuned.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        config = NetworkConfig.from_json_file(str(folder / CONFIG))
        data = (folder / WEIGHTS).read_bytes()
        stored = load(data)
    except (OSError, ValueError, TypeError, SafetensorError) as exc:
        raise ModelError(
            f"no weights in {folder}: {exc}; it must hold {CONFIG} and {WEIGHTS} as `newsquake train` writes them"
        ) from exc
    _, base = load_encoder(encoder_folder(encoder, config.encoder_name), config.encoder_sha256)
    network = Network(config)
    try:
        network.load_state_dict({name: _restore(name, stored, base) for name in network.state_dict()})
    except (KeyError, RuntimeError) as exc:
        raise ModelError(
            f"{folder / WEIGHTS} does not fit {folder / CONFIG}: {exc}; train or install them again"
        ) from exc
    if config.weight_bits:
        to_grid(network, config.weight_bits)
    network.train(mode=False)
    return network, version_of(config.version, data)


@torch.no_grad()
def to_grid(network: Network, bits: int) -> None:
    """Round the encoder's matrices, embeddings left out, to `bits` bits with one scale a row.

    A device that computes with such weights, as 8-bit kernels do, then has exactly the weights of all others.
    """
    top = max(1, 2 ** (bits - 1) - 1)
    for module in network.encoder.modules():
        if isinstance(module, torch.nn.Linear):
            scale = module.weight.abs().amax(1, keepdim=True).clamp(min=1e-12) / top
            module.weight.copy_((module.weight / scale).round() * scale)


def stored_factors(name: str, stored: Mapping[str, Tensor], shape: tuple[int, int]) -> Factors | None:
    """The factors of a matrix of that shape as they are stored; `None` where its difference is not of low rank."""
    from model.low_rank import Factors

    if f"{name}.up.q4" not in stored:
        return None
    up, down = (
        dequantise(stored[f"{name}.{part}.q4"], stored[f"{name}.{part}.scale"], size)
        for part, size in (("up", shape[0]), ("down", shape[1]))
    )
    return Factors(up.T, down)


def _small(matrix: Tensor) -> bool:
    """Whether 4 bits are not worth it: a bias by relative position and the like."""
    return matrix.numel() < 2**9


def _restore(name: str, stored: Mapping[str, Tensor], encoder: Mapping[str, Tensor]) -> Tensor:
    base = encoder.get(name.removeprefix("encoder."))
    if base is None:
        return stored[name].float()
    if base.ndim == 2 and (factors := stored_factors(name, stored, (base.shape[0], base.shape[1]))):
        return base.float() + factors.up @ factors.down
    if f"{name}.q4" not in stored and name not in stored:
        return base.float()  # not trained
    if f"{name}.q4" in stored:
        return base.float() + dequantise(stored[f"{name}.q4"], stored[f"{name}.scale"], base.shape[1])
    return base.float() + stored[name].float()
