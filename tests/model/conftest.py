"""A tiny encoder of the pinned one's make, tiny weights on it, and labelled sets in our own words."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel

from model.encoder import encoder_folder, load_encoder
from model.labels import SENTIMENT
from model.network import Network, NetworkConfig
from model.scorer import Scorer
from model.settings import ModelSettings
from model.weights import pack

TOPICS = ("Earnings", "Legal / Regulation", "Markets")
CONVENTIONS = ("tfns", "sentfin")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny networks gain nothing from more, and lose much where the cores are busy."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    shutil.copy(encoder_folder() / "tokenizer.json", folder)
    config = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    torch.manual_seed(0)
    save_file(BertModel(config).state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(config.to_json_string())
    return folder


@pytest.fixture(scope="session")
def tiny_sha256(tiny_encoder: Path) -> str:
    return hashlib.sha256((tiny_encoder / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="session")
def tiny_network(tiny_encoder: Path, tiny_sha256: str) -> Network:
    """The tiny encoder, moved a little as fine-tuning does, with random heads."""
    shape, weights = load_encoder(tiny_encoder, tiny_sha256)
    torch.manual_seed(1)
    network = Network(
        NetworkConfig(
            encoder=shape,
            sentiment_labels=SENTIMENT,
            topic_labels=TOPICS,
            conventions=CONVENTIONS,
            temperature={"tfns": 1.5, "sentfin": 0.8, "topic": 1.2},
            encoder_sha256=tiny_sha256,
            weight_bits=8,
            version="tiny-1",
        )
    )
    network.encoder.load_state_dict({name: w + 0.01 * torch.randn_like(w) for name, w in sorted(weights.items())})
    torch.nn.init.normal_(network.sentiment.weight)
    torch.nn.init.normal_(network.topic.weight)
    return network.eval()


@pytest.fixture(scope="session")
def tiny_weights(
    tiny_network: Network, tiny_encoder: Path, tiny_sha256: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    pack(tiny_network, load_encoder(tiny_encoder, tiny_sha256)[1], folder)
    return folder


@pytest.fixture
def tiny_scorer(tiny_weights: Path, tiny_encoder: Path) -> Scorer:
    return Scorer.load(ModelSettings(weights=tiny_weights, encoder=tiny_encoder, device="cpu"))


@pytest.fixture
def labelled_sets(tmp_path: Path) -> Callable[[], dict[str, Path]]:
    """Writes the three training sets and PhraseBank in their published layouts; words give the labels away."""

    def write() -> dict[str, Path]:
        companies = [
            f"{a}{b}" for a in ("Acme", "Borel", "Cento", "Dunlin", "Elba") for b in ("", " Oil", " Bank", " Air")
        ]
        moods = {"negative": "plunges on loss", "neutral": "holds meeting", "positive": "soars on profit"}
        codes = {"negative": 0, "positive": 1, "neutral": 2}
        themes = ("reports quarterly earnings", "is sued in court", "moves with the index")
        folders = {name: tmp_path / name for name in ("tfns", "tfnt", "sentfin", "phrasebank")}
        for folder in folders.values():
            folder.mkdir()
        for part in ("train", "valid"):
            sentiment = [(f"{c} {words} {part}", codes[m]) for c in companies for m, words in moods.items()]
            _write(folders["tfns"] / f"sent_{part}.csv", ("text", "label"), sentiment)
            topic = [(f"{c} {theme} {part}", code) for c in companies for code, theme in enumerate(themes)]
            _write(folders["tfnt"] / f"{part}_data.csv", ("text", "label"), topic)
        (folders["tfnt"] / "labels.json").write_text(json.dumps(dict(enumerate(TOPICS))))
        overlap = [(0, 3, 0.9), (1, 4, 0.75)]
        _write(folders["tfns"] / "valid_train_overlap.csv", ("valid_row", "train_row", "jaccard"), overlap)
        sentfin = [(f"{c} {words} today", f"{{'{c}': '{m}'}}") for c in companies for m, words in moods.items()]
        _write(folders["sentfin"] / "SEntFiN.csv", ("Title", "Decisions"), sentfin)
        lines = [f"{c} {words} .@{m}" for c in companies for m, words in moods.items()]
        (folders["phrasebank"] / "Sentences_50Agree.txt").write_bytes("\r\n".join(lines).encode("iso-8859-1"))
        return folders

    return write


def _write(path: Path, header: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
