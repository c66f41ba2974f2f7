"""What a scorer is called is known without loading it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from model.errors import ModelError
from model.identity import CONFIG, WEIGHTS, Identity, identity_of
from model.later import LaterScorer, scorer_of
from model.scorer import Scorer
from model.settings import ModelSettings


@pytest.fixture
def settings(tiny_weights: Path, tiny_encoder: Path, tmp_path: Path) -> ModelSettings:
    """Of weights of their own, which a test may change."""
    folder = tmp_path / "weights"
    shutil.copytree(tiny_weights, folder)
    return ModelSettings(weights=folder, encoder=tiny_encoder, device="cpu", backend="torch", precision="float32")


@pytest.mark.parametrize("max_tokens", [None, 16])
def test_a_scorer_is_called_what_its_files_say(settings: ModelSettings, max_tokens: int | None) -> None:
    settings = settings.model_copy(update={"max_tokens": max_tokens})
    scorer = Scorer.load(settings)
    assert identity_of(settings) == Identity(
        scorer.version, scorer.fingerprint, scorer.sentiment_labels, scorer.topic_labels
    )


def test_what_a_configuration_leaves_out_is_as_the_loader_takes_it(settings: ModelSettings) -> None:
    assert settings.weights is not None
    path = settings.weights / CONFIG
    config = json.loads(path.read_text("utf-8"))
    for name in ("version", "max_tokens"):
        del config[name]
    path.write_text(json.dumps(config), "utf-8")
    scorer = Scorer.load(settings)
    assert identity_of(settings)[:2] == (scorer.version, scorer.fingerprint)


def test_it_is_loaded_once(settings: ModelSettings) -> None:
    loaded = []

    def load() -> Scorer:
        loaded.append(Scorer.load(settings))
        return loaded[-1]

    later = LaterScorer(identity_of(settings), "cpu", load)
    assert later.sentiment_labels
    assert not loaded
    later.load()
    scores = [later.score(["profit soars"]) for _ in range(2)]
    assert len(loaded) == 1
    assert np.array_equal(scores[0].sentiment, loaded[0].score(["profit soars"]).sentiment)


def test_weights_that_are_gone_or_change_meanwhile_are_told_of(settings: ModelSettings) -> None:
    assert settings.weights is not None
    later = scorer_of(settings)
    path = settings.weights / CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "version": "another"}), "utf-8")
    assert isinstance(later, LaterScorer)
    with pytest.raises(ModelError, match="have changed"):
        later.load()
    (settings.weights / WEIGHTS).unlink()
    with pytest.raises(ModelError, match="no weights in"):
        scorer_of(settings)
