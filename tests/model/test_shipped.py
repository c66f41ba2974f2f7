"""The weights that ship: they load, keep to their size, and read plain headlines as anyone would."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.encoder import MINILM, MPNET, SHA256
from model.errors import ModelError
from model.scorer import Scorer
from model.settings import SHIPPED_WEIGHTS, ModelSettings

# Reported results are TFNT's "Financials"; its "Earnings" are the calls and dates.
_HEADLINES = {
    "Shares of the airline plunge 20% after it cuts its profit forecast": ("negative", "Stock Movement"),
    "Chipmaker soars to record high on blowout quarter": ("positive", None),
    "Retailer misses third-quarter earnings estimates, revenue down 8%": ("negative", "Financials"),
    "Software firm beats quarterly estimates and raises its full-year outlook": ("positive", "Financials"),
    "Oil prices steady as OPEC ministers meet": (None, "Energy / Oil"),
    "ECB president to speak on monetary policy on Thursday": ("neutral", "Fed / Central Banks"),
    "Regulator sues bank over alleged fraud": ("negative", "Legal / Regulation"),
    "Utility declares quarterly dividend of $0.45 a share": (None, "Dividend"),
    "Drugmaker names new chief financial officer": ("neutral", "Personnel Change"),
}


@pytest.fixture(scope="module")
def shipped() -> Scorer:
    return Scorer.load(ModelSettings())


@pytest.mark.parametrize("headline", _HEADLINES)
def test_plain_headlines(shipped: Scorer, headline: str) -> None:
    scores = shipped.score([headline])
    sentiment, topic = _HEADLINES[headline]
    if sentiment:
        assert shipped.sentiment_labels[scores.sentiment[0].argmax()] == sentiment
    if topic:
        assert shipped.topic_labels[scores.topic[0].argmax()] == topic


def test_labels_version_and_size(shipped: Scorer) -> None:
    assert shipped.sentiment_labels == ("negative", "neutral", "positive")
    assert len(set(shipped.topic_labels)) == 20
    name, _, digest = shipped.version.partition("+")
    assert name.startswith("small-")
    assert len(digest) == 8


@pytest.mark.parametrize(("size", "encoder"), [("small", MINILM), ("base", MPNET)])
def test_each_size_is_small_enough_and_names_its_encoder(size: str, encoder: str) -> None:
    folder = SHIPPED_WEIGHTS / size
    config = json.loads((folder / "config.json").read_text())
    assert config["encoder_sha256"] == SHA256[encoder]
    assert config["encoder_name"] == encoder
    assert set(config["temperature"]) == {*config["conventions"], "topic", "served"}
    assert (folder / "weights.safetensors").stat().st_size <= 12_000_000


def test_base_says_how_to_get_its_encoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ModelError, match="newsquake fetch-encoder"):
        Scorer.load(ModelSettings(size="base"))
