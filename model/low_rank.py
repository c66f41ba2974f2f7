"""Differences of low rank: what training changed in a matrix, as the product of two small ones.

Of all matrices of a rank, the one is taken that changes the layer's outputs least on the texts it was trained on, not
the one nearest by its entries: the inputs of a layer are far from alike in all directions (Yuan et al. 2023, ASVD;
Wang et al. 2024, SVD-LLM).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from model.batches import plain_batches, tokenise

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from model.network import Network

_TEXTS = 2_000  # enough: 50,000 tokens for 3,072 directions at most
_BATCH = 64
_DAMPING = 1e-3  # of the mean variance: directions that these texts never take still count a little


class Factors(NamedTuple):
    """The difference `up @ down` of a matrix (rows, columns)."""

    up: Tensor  # (rows, rank) float32
    down: Tensor  # (rank, columns) float32


@torch.inference_mode()
def input_moments(network: Network, tokenizer: Tokenizer, texts: Sequence[str]) -> dict[str, Tensor]:
    """The second moments (columns, columns) of what goes into each matrix of the encoder, by the matrix's name.

    Taken over the tokens of at most 2,000 of the texts, evenly spaced.
    """
    network.train(mode=False)
    sums: dict[str, Tensor] = {}
    now = torch.empty(0, dtype=torch.bool)

    def add(name: str) -> Any:
        def hook(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            seen = given[0][now].float()  # (tokens, columns)
            sums[name] = sums.get(name, torch.zeros(())) + seen.T @ seen

        return hook

    matrices = {name: module for name, module in network.encoder.named_modules() if isinstance(module, nn.Linear)}
    hooks = [module.register_forward_pre_hook(add(f"{name}.weight")) for name, module in matrices.items()]
    try:
        some = [texts[i] for i in range(0, len(texts), max(1, len(texts) // _TEXTS))]
        for _, ids, mask in plain_batches(tokenise(tokenizer, some), _BATCH):
            now = mask.bool()
            network.encoder(input_ids=ids, attention_mask=mask)
    finally:
        for hook in hooks:
            hook.remove()
    return sums


@torch.no_grad()
def low_rank(
    network: Network, encoder: Mapping[str, Tensor], moments: Mapping[str, Tensor], rank: int
) -> dict[str, Factors]:
    """The factors of rank `rank` at most of each matrix that has moments, by its name in the network.

    The network's matrices are set to what the factors give.
    """
    factors = {}
    for name, moment in moments.items():
        weight = network.encoder.get_parameter(name)
        base = encoder[name].float()
        factor = _nearest(weight.float() - base, moment, rank)
        weight.copy_(base + factor.up @ factor.down)
        factors[f"encoder.{name}"] = factor
    return factors


def balanced(factor: Factors) -> Factors:
    """The same product, by singular values: each component stands alone, with equal lengths on both sides."""
    q_up, r_up = torch.linalg.qr(factor.up)
    q_down, r_down = torch.linalg.qr(factor.down.T)
    left, values, right = torch.linalg.svd(r_up @ r_down.T)
    root = values.sqrt()
    return Factors(q_up @ left * root, (q_down @ right.T * root).T)


def _nearest(difference: Tensor, moment: Tensor, rank: int) -> Factors:
    """The least ‖(difference - up @ down) · moment^½‖ among factors of the rank."""
    moment = moment / moment.diagonal().mean().clamp(min=1e-12)
    values, vectors = torch.linalg.eigh(moment + _DAMPING * torch.eye(len(moment)))
    roots = values.clamp(min=_DAMPING / 10).sqrt()
    left, sizes, right = torch.linalg.svd(difference @ (vectors * roots), full_matrices=False)
    up = left[:, :rank] * sizes[:rank]
    down = (right[:rank] / roots) @ vectors.T
    return balanced(Factors(up, down))
