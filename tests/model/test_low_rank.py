"""Differences of low rank: what is kept is what the texts need, and the file gives it back."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor

from model.encoder import load_encoder, load_tokenizer
from model.low_rank import Factors, balanced, input_moments, low_rank
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


def _outputs_error(moment: Tensor, difference: Tensor) -> float:
    return float((difference @ moment @ difference.T).trace())


def test_a_rank_changes_outputs_less_than_the_nearest_matrix_of_that_rank(
    tiny_network: Network, tiny_encoder: Path, tiny_sha256: str
) -> None:
    encoder = load_encoder(tiny_encoder, tiny_sha256)[1]
    moments = input_moments(tiny_network, load_tokenizer(tiny_encoder, 96), TEXTS)
    factors = low_rank(copy.deepcopy(tiny_network), encoder, moments, 2)
    assert {name.removeprefix("encoder.") for name in factors} == moments.keys()
    for name, moment in moments.items():
        whole = tiny_network.encoder.get_parameter(name).detach() - encoder[name]
        left, sizes, right = torch.linalg.svd(whole, full_matrices=False)
        nearest = left[:, :2] * sizes[:2] @ right[:2]
        ours = factors[f"encoder.{name}"].up @ factors[f"encoder.{name}"].down
        assert torch.linalg.matrix_rank(ours) <= 2
        assert _outputs_error(moment, whole - ours) <= _outputs_error(moment, whole - nearest) * 1.01


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
    size = pack(network, encoder, tmp_path, low_rank(network, encoder, input_moments(network, tokenizer, TEXTS), 32))
    assert size == (tmp_path / "weights.safetensors").stat().st_size
    again = predict(unpack(tmp_path, tiny_encoder)[0], tokenizer, TEXTS)
    for before, after in zip(said, again, strict=True):
        torch.testing.assert_close(after, before, rtol=0, atol=0.25 * float(before.std()))
