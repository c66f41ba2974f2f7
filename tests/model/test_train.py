from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from model.batches import hard_targets, plain_batches, tokenise, training_batches
from model.data import with_sentiment, with_topic
from model.encoder import encoder_folder, load_tokenizer
from model.errors import ModelError
from model.scorer import Scorer
from model.settings import ModelSettings, TrainSettings
from model.train import train

Sets = Callable[[], dict[str, Path]]


@pytest.fixture
def settings(labelled_sets: Sets, tiny_encoder: Path, tmp_path: Path) -> TrainSettings:
    return TrainSettings(
        **labelled_sets(),
        out=tmp_path / "out",
        encoder=tiny_encoder,
        events=False,
        perturbed=0.0,
        patience=6,
        version="tiny-2",
        epochs=6,
        batch_size=8,
        encoder_rate=3e-3,
        head_rate=1e-2,
        dev_share=0.2,
        threads=1,
    )


def test_it_learns_what_the_sets_teach(settings: TrainSettings) -> None:
    said: list[str] = []
    out = train(settings, said.append)
    scorer = Scorer.load(ModelSettings(weights=out, encoder=settings.encoder))
    scores = scorer.score(["Zeta plunges on loss", "Zeta soars on profit", "Zeta is sued in court"])
    assert [scorer.sentiment_labels[i] for i in scores.sentiment[:2].argmax(1)] == ["negative", "positive"]
    assert scorer.topic_labels[scores.topic[2].argmax()] == "Legal / Regulation"
    assert scorer.version.startswith("tiny-2+")
    assert sum(line.startswith("epoch ") for line in said) == settings.epochs


def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_happened(settings: TrainSettings, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def killed(line: str) -> None:
        if line.startswith("epoch 3"):
            raise Killed

    whole = train(settings, lambda _: None)
    broken = settings.model_copy(update={"out": tmp_path / "broken"})
    with pytest.raises(Killed):
        train(broken, killed)
    said: list[str] = []
    train(broken, said.append)
    assert any(line.startswith("going on from step ") for line in said)
    for name in ("weights.safetensors", "config.json"):
        assert (broken.out / name).read_bytes() == (whole / name).read_bytes()


def test_a_checkpoint_of_another_run_is_refused(settings: TrainSettings) -> None:
    short = settings.model_copy(update={"epochs": 1})
    train(short, lambda _: None)
    with pytest.raises(ModelError, match="other settings or data: delete it"):
        train(settings, lambda _: None)


def test_an_epoch_holds_every_row_once_and_hides_whole_words() -> None:
    tokenizer = load_tokenizer(encoder_folder(), 96)
    texts = [f"unbelievable {'counterintuitively ' * (i % 9)} {i}" for i in range(500)]
    sets = [
        with_sentiment("x", ("a",), [(text, 0) for text in texts]),
        with_topic("y", ("a",), [(text, 0) for text in texts]),
    ]
    targets = hard_targets(sets, ("x",), 1, 1)
    masked = list(training_batches(tokenizer, texts * 2, targets, 32, np.random.default_rng(0), masked=0.5))
    assert sum(len(batch.topic) for batch in masked) == 1_000
    assert sum(int((batch.topic == 0).sum()) for batch in masked) == 500
    assert sum(int((batch.sentiment == 0).sum()) for batch in masked) == 500
    mask_id = tokenizer.token_to_id("[MASK]")
    for _, ids, _ in plain_batches(tokenise(tokenizer, texts), 32):
        assert not (ids == mask_id).any()
    pieces = tokenizer.encode("counterintuitively", add_special_tokens=False).ids
    assert len(pieces) > 1
    tokens = torch.cat([batch.input_ids[batch.attention_mask == 1] for batch in masked]).tolist()
    hidden = tokens.count(mask_id) / (len(tokens) - 2_000)
    assert 0.4 < hidden < 0.6
    firsts = [i for i, token in enumerate(tokens) if token == pieces[0]]
    assert all(tokens[i : i + len(pieces)] == pieces for i in firsts)
    assert 101 in tokens
    assert 102 in tokens  # [CLS] and [SEP] are never hidden
    assert tokens.count(101) == tokens.count(102) == 1_000
