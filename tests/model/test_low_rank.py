"""Differences of low rank: what is kept is what the texts need, and the file gives it back."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor

from model.encoder import load_encoder, load_tokenizer
from model.low_rank import Factors, Moments, balanced, layer_moments, low_rank
from model.network import Network
from model.predict import predict
from model.weights import pack, unpack

TEXTS = ["Depositors queue at the bank", "Profit rose to 12 million euros", "the app is down again", "Shares unchanged"]


def test_balanced_factors_have_the_same_product_and_equal_lengths() -> None:
    torch.manual_seed(1)
    factor = Factors(torch.randn(12, 3) * 100, torch.randn(3, 20) / 100)
    even = balanced(factor)
    torch.testing.assert_close(even.up @ even.down, factor.up @ factor.down, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(even.up.norm(dim=0), even.down.norm(dim=1))


def _error(moments: Moments, difference: Tensor) -> float:
    """What a change of a matrix adds to twice the loss."""
    return float(((moments.gradients @ difference) @ moments.inputs * difference).sum())


def test_a_rank_costs_the_loss_less_than_the_nearest_matrices_of_that_rank(
    tiny_network: Network, tiny_encoder: Path, tiny_sha256: str
) -> None:
    encoder = load_encoder(tiny_encoder, tiny_sha256)[1]
    moments = layer_moments(copy.deepcopy(tiny_network), load_tokenizer(tiny_encoder, 96), TEXTS, 1)
    network = copy.deepcopy(tiny_network)
    factors = low_rank(network, encoder, moments, 4)
    ours = nearest = 0.0
    for name, moment in moments.items():
        whole = tiny_network.encoder.get_parameter(name).detach() - encoder[name]
        left, sizes, right = torch.linalg.svd(whole, full_matrices=False)
        nearest += _error(moment, whole - left[:, :4] * sizes[:4] @ right[:4])
        kept = network.encoder.get_parameter(name).detach() - encoder[name]
        ours += _error(moment, whole - kept)
        factor = factors.get(f"encoder.{name}")
        torch.testing.assert_close(kept, factor.up @ factor.down if factor else 0 * kept, rtol=1e-3, atol=1e-5)
    assert ours < 0.9 * nearest
    values = sum(factor.up.numel() + factor.down.numel() for factor in factors.values())
    assert 0.9 < values / sum(4 * sum(encoder[name].shape) for name in moments) <= 1


def test_moments_are_those_of_the_tokens_alone(tiny_network: Network, tiny_encoder: Path) -> None:
    """Against one text at a time, without padding: all labels are sure here, so that none is drawn by chance."""
    network, tokenizer = copy.deepcopy(tiny_network).float(), load_tokenizer(tiny_encoder, 96)
    with torch.no_grad():
        for head in (network.sentiment, network.topic):
            head.bias.copy_(torch.arange(len(head.bias)) % 3 * 20.0)
            head.weight.mul_(0.1)
    found = layer_moments(network, tokenizer, TEXTS, 1)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_pre_hooks or module._backward_hooks for module in network.modules())
    assert len(found) == sum(isinstance(module, torch.nn.Linear) for module in network.encoder.modules())

    place = network.encoder.encoder.layer[0].intermediate.dense
    inputs, gradients, tokens = torch.zeros(32, 32), torch.zeros(64, 64), 0
    for text in TEXTS:
        seen: list[Tensor] = []
        handle = place.register_forward_hook(lambda _, given, out, seen=seen: seen.extend((given[0], out)))
        ids = torch.tensor([tokenizer.encode(text).ids])
        logits = network(ids, torch.ones_like(ids))
        handle.remove()
        loss = sum(-head.log_softmax(-1).max() for head in (*logits.sentiment[0], logits.topic[0]))
        (gradient,) = torch.autograd.grad(loss, seen[1])
        inputs += seen[0][0].detach().T @ seen[0][0].detach()
        gradients += gradient[0].T @ gradient[0]
        tokens += ids.numel()
    ours = found["encoder.layer.0.intermediate.dense.weight"]
    for mine, wanted in ((ours.inputs, inputs / tokens), (ours.gradients, gradients)):
        assert (mine - wanted).norm() < 0.05 * wanted.norm()  # bfloat16 or not


def test_weights_of_nearly_full_rank_say_what_the_network_said(
    tiny_network: Network, tiny_encoder: Path, tiny_sha256: str, tmp_path: Path
) -> None:
    encoder = load_encoder(tiny_encoder, tiny_sha256)[1]
    tokenizer = load_tokenizer(tiny_encoder, 96)
    network = copy.deepcopy(tiny_network)
    with torch.no_grad():
        for name, parameter in network.encoder.named_parameters():
            if "embeddings" in name:  # they are left as they were
                parameter.copy_(encoder[name])
    said = predict(network, tokenizer, TEXTS)
    size = pack(network, encoder, tmp_path, low_rank(network, encoder, layer_moments(network, tokenizer, TEXTS, 1), 32))
    assert size == (tmp_path / "weights.safetensors").stat().st_size
    again = predict(unpack(tmp_path, tiny_encoder)[0], tokenizer, TEXTS)
    for before, after in zip(said, again, strict=True):
        torch.testing.assert_close(after, before, rtol=0, atol=0.25 * float(before.std()))
