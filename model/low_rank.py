"""Differences of low rank: what training changed in a matrix, as the product of two small ones.

What is kept is what the loss needs, not what is nearest by its entries: a change of a layer is weighed by the second
moments of what goes into the layer and of the loss' gradient of what comes out of it, as in Martens and Grosse 2015
(K-FAC). So weighed, the singular values of all layers stand on one scale, and each layer gets the rank that it is worth
(Hsu et al. 2022, FWSVD, and Wang et al. 2024, SVD-LLM, weigh by one of both sides).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from model.batches import plain_batches, tokenise
from model.device import has_bfloat16, is_out_of_memory

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch.utils.hooks import RemovableHandle

    from model.network import Logits, Network

_TEXTS = 2_000  # enough: 50,000 tokens for 3,072 directions at most
_INPUT_DAMPING, _GRADIENT_DAMPING = 1e-3, 0.05  # of the mean: directions that these texts never take count a little


class Moments(NamedTuple):
    """Second moments at a matrix (rows, columns)."""

    gradients: Tensor  # (rows, rows) float32: of the loss by what comes out, summed over tokens
    inputs: Tensor  # (columns, columns) float32: of what goes in, the mean over tokens


class Factors(NamedTuple):
    """The difference `up @ down` of a matrix (rows, columns)."""

    up: Tensor  # (rows, rank) float32
    down: Tensor  # (rank, columns) float32
    moments: Moments | None = None  # by which it is rounded


def layer_moments(
    network: Network, tokenizer: Tokenizer, texts: Sequence[str], seed: int, batch: int = 32
) -> dict[str, Moments]:
    """The moments at each matrix of the encoder, by the matrix's name, on the CPU.

    Taken over the tokens of at most 2,000 of the texts, evenly spaced, `batch` texts at once or as many as memory
    allows. The loss is that of labels drawn from what the network says: the Fisher information.
    """
    some = texts[:: -(-len(texts) // _TEXTS)]
    while True:
        try:
            return _layer_moments(network, tokenizer, some, seed, batch)
        except (MemoryError, RuntimeError) as exc:
            if not is_out_of_memory(exc) or batch == 1:
                raise
        batch //= 2


def _layer_moments(
    network: Network, tokenizer: Tokenizer, texts: Sequence[str], seed: int, batch: int
) -> dict[str, Moments]:
    network.train(mode=False)
    device = next(network.parameters()).device
    if device.type == "cpu":  # as in training
        network.encoder.set_attn_implementation("eager")
    inputs: dict[str, _Sum] = {}
    gradients: dict[str, _Sum] = {}
    now = torch.empty(0, dtype=torch.bool)

    def add(sums: dict[str, _Sum], name: str, values: Tensor) -> None:
        with torch.autocast(device.type, enabled=False):  # sums need full precision
            tokens = values[now] if values.shape[:2] == now.shape else values.flatten(0, -2)
            before = sums.get(name, _Sum(torch.zeros((), device=device), 0))
            sums[name] = _Sum(before.squares + tokens.float().T @ tokens.float(), before.tokens + len(tokens))

    def watch(name: str, module: nn.Linear) -> list[RemovableHandle]:
        def leaves(_: nn.Module, before: object, after: Any) -> None:
            add(gradients, name, after[0])

        return [
            module.register_forward_pre_hook(lambda _, given: add(inputs, name, given[0].detach())),
            module.register_full_backward_hook(leaves),
        ]

    hooks: list[RemovableHandle] = []
    drawing = torch.Generator().manual_seed(seed)
    try:
        for name, module in network.encoder.named_modules():
            if isinstance(module, nn.Linear):
                hooks += watch(f"{name}.weight", module)
        for _, ids, mask in plain_batches(tokenise(tokenizer, texts), batch):
            now = mask.bool().to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device.type)):
                logits = network(ids.to(device), mask.to(device))
            _drawn_loss(logits, drawing).backward()
            network.zero_grad()
    finally:
        for hook in hooks:
            hook.remove()
        network.zero_grad()
    return {
        name: Moments(gradients[name].squares.cpu(), (found.squares / max(1, found.tokens)).cpu())
        for name, found in inputs.items()
        if name in gradients
    }


class _Sum(NamedTuple):
    squares: Tensor
    tokens: int


def _drawn_loss(logits: Logits, drawing: torch.Generator) -> Tensor:
    """The summed loss of labels drawn from the probabilities of every head."""
    total = torch.zeros(())
    for head in (*logits.sentiment.unbind(1), logits.topic):
        if head.shape[-1]:
            log = head.float().log_softmax(-1).cpu()
            total = total - log.gather(1, torch.multinomial(log.detach().exp(), 1, generator=drawing)).sum()
    return total


@torch.no_grad()
def low_rank(
    network: Network, encoder: Mapping[str, Tensor], moments: Mapping[str, Moments], rank: int
) -> dict[str, Factors]:
    """The factors of each matrix that has moments, by its name in the network; none where nothing is worth keeping.

    They hold as many values as rank `rank` of every matrix would. The network's matrices are set to what they give.
    """
    parts = {}
    for name, at in moments.items():
        weight = network.encoder.get_parameter(name).float().cpu()
        parts[name] = _components(weight - encoder[name].float(), at)
    sizes = {name: sum(encoder[name].shape) for name in parts}
    worth = torch.cat([part.worth / sizes[name] for name, part in parts.items()])
    cost = torch.cat([torch.full((len(part.worth),), sizes[name]) for name, part in parts.items()])
    best = worth.argsort(descending=True)
    kept = torch.zeros_like(worth, dtype=torch.bool)
    kept[best[cost[best].cumsum(0) <= rank * sum(sizes.values())]] = True
    kept &= worth > 0
    factors = {}
    for (name, part), own in zip(parts.items(), kept.split([len(part.worth) for part in parts.values()]), strict=True):
        up, down = part.up[:, own], part.down[own]
        network.encoder.get_parameter(name).copy_(encoder[name].float() + up @ down)
        if own.any():
            factors[f"encoder.{name}"] = Factors(up, down, moments[name])
    return factors


def rounded_by(factors: Mapping[str, Factors], moments: Mapping[str, Moments]) -> dict[str, Factors]:
    """The same factors, to be rounded by these moments."""
    return {
        name: factor._replace(moments=moments.get(name.removeprefix("encoder."))) for name, factor in factors.items()
    }


def balanced(factor: Factors) -> Factors:
    """The same product, by singular values: each component stands alone, with equal lengths on both sides."""
    q_up, r_up = torch.linalg.qr(factor.up)
    q_down, r_down = torch.linalg.qr(factor.down.T)
    left, values, right = torch.linalg.svd(r_up @ r_down.T)
    root = values.sqrt()
    return Factors(q_up @ left * root, (q_down @ right.T * root).T, factor.moments)


class _Components(NamedTuple):
    up: Tensor  # (rows, k)
    down: Tensor  # (k, columns)
    worth: Tensor  # (k,): what leaving one out adds to twice the loss


def _components(difference: Tensor, moments: Moments) -> _Components:
    """The difference (rows, columns) as a sum of components, the first k of which are the best k together.

    No more of them than take less space than the difference itself.
    """
    left, right = _root(moments.gradients, _GRADIENT_DAMPING), _root(moments.inputs, _INPUT_DAMPING)
    u, values, v = torch.linalg.svd(left.root.T @ difference @ right.root, full_matrices=False)
    scale = moments.gradients.diagonal().mean() * moments.inputs.diagonal().mean()
    most = difference.numel() // sum(difference.shape)
    up, down = left.inverse @ u[:, :most] * values[:most], v[:most] @ right.inverse.T
    return _Components(up, down, values[:most].square() * scale)


class _Root(NamedTuple):
    root: Tensor  # R of R @ R.T = M
    inverse: Tensor  # R.T's


def _root(moments: Tensor, damping: float) -> _Root:
    moments = moments.double() / moments.diagonal().mean().clamp(min=1e-12)
    values, vectors = torch.linalg.eigh(moments + damping * torch.eye(len(moments)))
    roots = values.clamp(min=damping / 10).sqrt()
    return _Root((vectors * roots).float(), (vectors / roots).float())
