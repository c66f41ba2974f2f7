from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from model.batches import hard_targets
from model.calibrate import served_temperature
from model.data import UNLABELLED, with_sentiment
from model.encoder import encoder_folder, load_encoder
from model.errors import ModelError
from model.network import Logits, Network
from model.weights import pack, unpack


def test_unpacked_weights_answer_as_the_trained_ones(
    tiny_network: Network, tiny_weights: Path, tiny_encoder: Path, tiny_sha256: str
) -> None:
    network, version = unpack(tiny_weights, tiny_encoder)
    assert version.startswith("tiny-1+")
    assert network.config.temperature == tiny_network.config.temperature
    ids = torch.randint(1000, 20_000, (8, 12), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        trained = tiny_network(ids, torch.ones_like(ids))
        unpacked = network(ids, torch.ones_like(ids))
        network.encoder.load_state_dict(load_encoder(tiny_encoder, tiny_sha256)[1])
        untrained = network(ids, torch.ones_like(ids))
    for wanted, got, without in zip(trained, unpacked, untrained, strict=True):
        assert (got - wanted).norm() < 0.4 * (without - wanted).norm()


def test_the_file_is_a_seventh_of_float32(tiny_weights: Path, tiny_network: Network) -> None:
    parameters = sum(p.numel() for p in tiny_network.parameters())
    assert (tiny_weights / "weights.safetensors").stat().st_size < parameters * 4 / 7 + 4_096


def test_packing_twice_gives_the_same_file(
    tiny_network: Network, tiny_encoder: Path, tiny_sha256: str, tiny_weights: Path, tmp_path: Path
) -> None:
    pack(tiny_network, load_encoder(tiny_encoder, tiny_sha256)[1], tmp_path)
    for name in ("config.json", "weights.safetensors"):
        assert (tmp_path / name).read_bytes() == (tiny_weights / name).read_bytes()


def test_another_encoder_is_refused(tiny_weights: Path) -> None:
    with pytest.raises(ModelError, match=r"SHA-256 53aa.*trained on the encoder with"):
        unpack(tiny_weights, encoder_folder())


def test_missing_and_damaged_files_are_named(tiny_weights: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no weights in .*newsquake train"):
        unpack(tmp_path, tiny_encoder)
    with pytest.raises(ModelError, match=r"has no config\.json"):
        unpack(tiny_weights, tmp_path)
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_weights, damaged)
    config = json.loads((damaged / "config.json").read_text())
    (damaged / "config.json").write_text(json.dumps(config | {"topic_labels": ["one"]}))
    with pytest.raises(ModelError, match="does not fit"):
        unpack(damaged, tiny_encoder)
    (damaged / "config.json").write_text("{")
    with pytest.raises(ModelError, match="no weights in"):
        unpack(damaged, tiny_encoder)
    shutil.copy(tiny_weights / "config.json", damaged)
    (damaged / "weights.safetensors").write_bytes((tiny_weights / "weights.safetensors").read_bytes()[:10_000])
    with pytest.raises(ModelError, match="no weights in"):
        unpack(damaged, tiny_encoder)


def test_the_mean_of_heads_has_a_temperature_of_its_own(tiny_network: Network) -> None:
    """Two heads that each are right but disagree in strength give a mean that is less sure than it may be."""
    network = copy.deepcopy(tiny_network)
    target = np.arange(300) % 3
    sure = 6.0 * np.eye(3, dtype=np.float32)[target]
    flat = np.where(np.arange(300)[:, None] % 2, sure, 0.2 * sure)
    logits = Logits(torch.from_numpy(np.stack([sure, flat], 1)), torch.zeros(300, 3))
    none = np.full(300, UNLABELLED)
    targets = hard_targets([with_sentiment("own", ("a", "b", "c"), [("x", int(t)) for t in target])], ("p", "q"), 3, 3)
    assert (targets.topic == none).all()
    before = network.probabilities(logits)[0].max(1).values.mean()
    network.config.temperature["served"] = served_temperature(network, logits, targets)
    assert network.config.temperature["served"] < 0.9
    assert network.probabilities(logits)[0].max(1).values.mean() > before
