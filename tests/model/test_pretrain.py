from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from model.errors import ModelError
from model.pretrain import pretrain
from model.scorer import Scorer
from model.settings import ModelSettings, PretrainSettings, TrainSettings
from model.train import train


@pytest.fixture
def settings(tiny_encoder: Path, tmp_path: Path) -> PretrainSettings:
    (tmp_path / "texts.csv").write_text("text\n" + "\n".join(f"shares of bank {i} fell on loss" for i in range(64)))
    return PretrainSettings(
        texts=(tmp_path / "texts.csv",),
        encoder=tiny_encoder,
        out=tmp_path / "encoder",
        rate=1e-2,
        epochs=4,
        batch_size=16,
        threads=1,
    )


def test_it_learns_to_guess_and_its_encoder_trains_and_scores(
    settings: PretrainSettings, labelled_sets: Callable[[], dict[str, Path]], tiny_encoder: Path, tmp_path: Path
) -> None:
    losses: list[float] = []
    said: list[str] = []
    folder = pretrain(settings, said.append, lambda done, of, loss: losses.append(loss))
    assert losses[-1] < 0.7 * losses[0]
    before, after = load_file(tiny_encoder / "model.safetensors"), load_file(folder / "model.safetensors")
    assert {n for n in before if not n.startswith("pooler.")} == set(after)
    assert not before["embeddings.word_embeddings.weight"].equal(after["embeddings.word_embeddings.weight"])
    recipe = {"encoder": folder, "events": False, "epochs": 1, "dev_share": 0.2, "tfidf_share": 0.0, "threads": 1}
    out = train(TrainSettings(**labelled_sets(), out=tmp_path / "out", **recipe), said.append)
    with pytest.raises(ModelError, match="trained on the encoder with"):
        Scorer.load(ModelSettings(weights=out, encoder=tiny_encoder, device="cpu"))
    scorer = Scorer.load(ModelSettings(weights=out, encoder=folder, device="cpu", backend="torch"))
    assert scorer.score(["a bank fell"]).topic.shape == (1, 3)


def test_the_same_seed_gives_the_same_encoder(settings: PretrainSettings, tmp_path: Path) -> None:
    a = pretrain(settings)
    b = pretrain(settings.model_copy(update={"out": tmp_path / "again"}))
    assert (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()


def test_what_cannot_be_is_said(settings: PretrainSettings, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no texts to learn from"):
        pretrain(settings.model_copy(update={"texts": ()}))
    with pytest.raises(ModelError, match=r"the loss is (nan|inf)"):
        pretrain(settings.model_copy(update={"rate": 1e37}))
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot be written"):
        pretrain(settings.model_copy(update={"out": tmp_path / "file" / "out"}))
