"""What a run survives: kills, full disks, memory that runs out, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from model import checkpoint
from model.encoder import load_tokenizer
from model.errors import ModelError
from model.labels import SENTIMENT
from model.network import Logits, Network
from model.predict import predict
from model.run_folder import read
from model.seeds import train_seeds
from model.settings import TrainSettings
from model.start import start_network
from model.train import train
from model.training_sets import read_training_sets
from model.weights import unpack

_FILES = ("weights.safetensors", "config.json")


@pytest.fixture
def settings(labelled_sets: Callable[[], dict[str, Path]], tiny_encoder: Path, tmp_path: Path) -> TrainSettings:
    return TrainSettings(
        **labelled_sets(),
        out=tmp_path / "out",
        encoder=tiny_encoder,
        events=False,
        epochs=3,
        patience=3,
        batch_size=8,
        encoder_rate=3e-3,
        head_rate=1e-2,
        dev_share=0.2,
        max_tokens=32,
        tfidf_share=0.0,
        threads=1,
    )


def _quiet(line: str) -> None:
    pass


@pytest.mark.parametrize(
    "recipe",
    [{"batch_size": 3}, {"batch_size": 3, "adapter_rank": 4, "epochs": 12, "patience": 1, "head_rate": 0.05}],
    ids=["whole", "adapters that end early"],
)
def test_a_process_killed_in_an_epoch_ends_with_the_same_bits(
    recipe: dict[str, float], settings: TrainSettings, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={**recipe, "checkpoint_s": 0.02})
    whole = train(settings, _quiet)
    broken = settings.model_copy(update={"out": tmp_path / "broken"})
    given = broken.model_dump(mode="json", exclude_defaults=True)
    config = tmp_path / "run.toml"
    config.write_text("".join(f"{name} = {_toml(value)}\n" for name, value in given.items()))
    process = subprocess.Popen(
        [sys.executable, "-c", "from deploy.cli import main; main()", "train", "--config", str(config)],
        stdout=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        epoch_steps = next(line["step"] for line in read(whole) if "dev" in line)
        last = broken.out / checkpoint.LAST
        step = 0
        while step <= epoch_steps or step % epoch_steps == 0:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
            step = torch.load(last, weights_only=True)["step"] if last.exists() else 0
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (broken.out / _FILES[0]).exists()
    said: list[str] = []
    train(broken, said.append)
    going_on = next(line for line in said if line.startswith("going on from step "))
    assert int(going_on.split()[4]) % epoch_steps, "not within an epoch"
    for name in _FILES:
        assert (broken.out / name).read_bytes() == (whole / name).read_bytes()
    assert [line for line in read(broken.out) if "dev" in line] == [line for line in read(whole) if "dev" in line]


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def test_a_run_that_ended_early_ends_at_once_when_started_again(settings: TrainSettings) -> None:
    settings = settings.model_copy(update={"epochs": 20, "patience": 1, "head_rate": 0.05})
    said: list[str] = []
    out = train(settings, said.append)
    epochs = sum(line.startswith("epoch ") for line in said)
    assert 1 < epochs < 20
    assert any("training ends early" in line for line in said)
    first = (out / _FILES[0]).read_bytes()
    said.clear()
    train(settings, said.append)
    assert not any(line.startswith("epoch ") for line in said)
    assert (out / _FILES[0]).read_bytes() == first


def test_a_full_disk_leaves_the_last_checkpoint(settings: TrainSettings, tmp_path: Path) -> None:
    whole = train(settings.model_copy(update={"out": tmp_path / "whole"}), _quiet)

    def full_after_the_first_epoch(line: str) -> None:
        if line.startswith("epoch 2"):
            (settings.out / "checkpoint.pt.partial").symlink_to("/dev/full")

    with pytest.raises(ModelError, match=r"checkpoint\.pt cannot be written: the disk is full; the last checkpoint"):
        train(settings, full_after_the_first_epoch)
    said: list[str] = []
    train(settings, said.append)
    assert any(line.startswith("going on from step ") for line in said)
    assert (settings.out / _FILES[0]).read_bytes() == (whole / _FILES[0]).read_bytes()


def test_a_folder_that_cannot_be_written_is_named(settings: TrainSettings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot be written"):
        train(settings.model_copy(update={"out": tmp_path / "file" / "out"}), _quiet)


def test_half_a_checkpoint_is_no_checkpoint(settings: TrainSettings) -> None:
    short = settings.model_copy(update={"epochs": 1, "patience": 1})
    train(short, _quiet)
    last = short.out / checkpoint.LAST
    (short.out / "checkpoint.pt.partial").write_bytes(last.read_bytes()[:100])  # killed while writing
    train(short, _quiet)
    last.write_bytes(last.read_bytes()[:5_000])
    with pytest.raises(ModelError, match=r"checkpoint\.pt is damaged .* delete it to start anew"):
        train(short, _quiet)


def test_a_loss_that_is_no_number_is_said_and_never_saved(settings: TrainSettings) -> None:
    with pytest.raises(ModelError, match=r"the loss is .* lower encoder_rate or head_rate; the last checkpoint"):
        train(settings.model_copy(update={"encoder_rate": 1e37, "warm_up": 0.0, "checkpoint_s": 1e-6}), _quiet)
    kept = torch.load(settings.out / checkpoint.LAST, weights_only=True)
    assert all(tensor.isfinite().all() for tensor in kept["network"].values())


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_without_memory_the_batch_is_halved(
    error: Exception, settings: TrainSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    room = 3
    forward = Network.forward

    def small(self: Network, ids: torch.Tensor, mask: torch.Tensor) -> Logits:
        if self.training and len(ids) > room:
            raise error
        return forward(self, ids, mask)

    monkeypatch.setattr(Network, "forward", small)
    train(settings.model_copy(update={"epochs": 1}), _quiet)
    warned = [record.getMessage() for record in caplog.records if "no memory" in record.getMessage()]
    assert [line.split("computed in ")[1].split()[0] for line in warned] == ["2", "4"]  # and remembered from then on
    room = 0
    with pytest.raises(ModelError, match="no memory for a single text of a batch: lower max_tokens"):
        train(settings.model_copy(update={"epochs": 1, "out": settings.out / "none"}), _quiet)


def test_other_errors_are_not_taken_for_a_lack_of_memory(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Network, ids: torch.Tensor, mask: torch.Tensor) -> Logits:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(Network, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        train(settings, _quiet)


def test_another_start_or_encoder_is_another_run(settings: TrainSettings, tmp_path: Path) -> None:
    a = train(settings.model_copy(update={"out": tmp_path / "a", "epochs": 1}), _quiet)
    b = train(settings.model_copy(update={"out": tmp_path / "b", "epochs": 1, "seed": 2}), _quiet)
    train(settings.model_copy(update={"start": a, "epochs": 1}), _quiet)
    with pytest.raises(ModelError, match="other settings or data"):
        train(settings.model_copy(update={"start": b, "epochs": 1}), _quiet)
    with pytest.raises(ModelError, match="no weights in"):
        train(settings.model_copy(update={"start": tmp_path, "out": tmp_path / "c"}), _quiet)


@pytest.mark.parametrize("how", [{}, {"adapter_rank": 4}, {"packed_rank": 8}], ids=["whole", "adapters", "low rank"])
def test_adapters_go_on_with_what_was_learnt(how: dict[str, int], settings: TrainSettings, tmp_path: Path) -> None:
    """They are those of the start, whatever ranks it has, so that the file does not grow; whole weights stay whole."""
    start = train(settings.model_copy(update={"epochs": 10, "patience": 10, "out": tmp_path / "start", **how}), _quiet)
    still = {"start": start, "adapter_rank": 4, "epochs": 1, "encoder_rate": 1e-9, "head_rate": 1e-9}
    on = train(settings.model_copy(update=still | {"out": tmp_path / "on"}), _quiet)
    assert len({(folder / _FILES[0]).stat().st_size for folder in (start, on)}) == 1
    tokenizer = load_tokenizer(settings.encoder or Path(), 32)
    texts = ["Acme plunges on loss today", "Borel Bank soars on profit today", "Cento Air is sued in court train"]
    said, again = (predict(unpack(folder, settings.encoder)[0], tokenizer, texts) for folder in (start, on))
    for before, after in zip(said, again, strict=True):
        torch.testing.assert_close(after, before, rtol=0, atol=0.25 * float(before.std()))
    if how != {"packed_rank": 8}:  # in a network this small most is learnt by the embeddings, which that leaves out
        assert _dev(start) > 0.45  # a guess has a third


def test_the_result_may_be_the_mean_with_the_start(settings: TrainSettings, tmp_path: Path) -> None:
    start = train(settings.model_copy(update={"out": tmp_path / "start", "epochs": 1}), _quiet)
    on = settings.model_copy(update={"start": start, "epochs": 2})
    parts = []
    for share in (0.0, 0.25):  # the second time nothing is trained
        network, _ = unpack(train(on.model_copy(update={"start_share": share}), _quiet), settings.encoder)
        parts.append(network.state_dict())
    before = unpack(start, settings.encoder)[0].state_dict()
    for name in ("topic.weight", "sentiment.bias", "encoder.embeddings.LayerNorm.bias"):
        trained, mean = (part[name] for part in parts)
        assert not torch.allclose(trained, before[name], atol=1e-3)
        torch.testing.assert_close(mean, 0.75 * trained + 0.25 * before[name], rtol=0, atol=2e-4)
        assert not torch.allclose(mean, trained, atol=2e-4)
    with pytest.raises(ValueError, match="needs start"):
        TrainSettings(start_share=0.5)
    mine = tmp_path / "mine.csv"
    mine.write_text("text,topic\n" + "".join(f"Queue {n},{'ab'[n % 2]}\n" for n in range(40)), "utf-8")
    others = {"tfnt": None, "labels": (mine,), "start_share": 0.5, "out": tmp_path / "others"}
    with pytest.raises(ModelError, match="other labels"):
        train(on.model_copy(update=others), _quiet)


def _dev(folder: Path) -> float:
    return float(json.loads((folder / "result.json").read_text())["dev"]["dev"])


def test_a_teacher_reads_only_the_rows_that_it_teaches(settings: TrainSettings, tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_text(
        "text,sentiment,topic\n" + "".join(f"Queue {n} at the bank,negative,Markets\n" for n in range(30)), "utf-8"
    )
    both = settings.model_copy(update={"labels": (own,), "epochs": 1})
    rows = {data.name: len(data) for data in read_training_sets(both, _quiet).train}
    said: list[str] = []
    train(both.model_copy(update={"teachers": (train(both, _quiet),), "out": tmp_path / "taught"}), said.append)
    reads = next(line for line in said if "reads" in line)
    assert reads.endswith(f" reads {sum(rows.values()) - rows[str(own)]} texts")
    assert rows[str(own)] > 20


def test_a_teacher_may_lack_heads_but_not_all(settings: TrainSettings, tmp_path: Path) -> None:
    one = settings.model_copy(update={"epochs": 1, "sentfin": None, "out": tmp_path / "tweets alone"})
    tweets = train(one, _quiet)
    both = settings.model_copy(update={"epochs": 1, "teachers": (tweets,)})
    train(both, _quiet)
    with np.load(both.out / "taught.npz") as kept:
        soft, of_tweets = kept["soft_sentiment"], len(read_training_sets(one, _quiet).train[0])
    labelled = slice(of_tweets, of_tweets + 10)  # SEntFiN's, whose head the teacher lacks: the label stands
    assert np.all((soft[labelled, 0] > 0) & (soft[labelled, 0] < 1))
    assert np.all(np.sort(soft[labelled, 1]) == [0, 0, 1])
    with pytest.raises(ModelError, match="has the heads tfns, none of sentfin"):
        train(both.model_copy(update={"tfns": None, "out": tmp_path / "none"}), _quiet)


def test_our_events_have_a_head_beside_published_sets_alone(settings: TrainSettings, tmp_path: Path) -> None:
    mine = tmp_path / "mine.csv"
    mine.write_text("text,sentiment\n" + "".join(f"Queue {n},{SENTIMENT[n % 3]}\n" for n in range(30)), "utf-8")
    bare = {"tfns": None, "tfnt": None, "sentfin": None, "events": True, "labels": (mine,)}
    for given, heads in (({}, ("own",)), ({"tfns": settings.tfns}, ("tfns", "events"))):
        sets = read_training_sets(settings.model_copy(update={**bare, **given}), _quiet)
        assert sets.conventions == heads
        assert next(data for data in sets.train if data.name == "events").topic_weight == 1  # no TFNT beside them


def test_the_head_of_our_events_has_the_share_that_was_asked_for(settings: TrainSettings) -> None:
    heads = settings.model_copy(update={"tfnt": None, "events": True, "epochs": 1, "events_share": 0.6})
    sets = read_training_sets(heads, _quiet)
    network, _ = start_network(heads, sets)
    assert dict(zip(sets.conventions, network.config.convention_weights, strict=True)) == pytest.approx(
        {"tfns": 0.2, "sentfin": 0.2, "events": 0.6}
    )
    assert start_network(settings, read_training_sets(settings, _quiet))[0].config.convention_weights == []  # alike


def test_research_is_tested_on_rows_that_no_seed_of_it_trained_on(
    settings: TrainSettings,
) -> None:
    update = {
        "tfns": None,
        "tfnt": None,
        "sentfin": None,
        "research": True,
        "epochs": 10,
        "patience": 10,
        "dev_share": 0.1,
    }
    research = settings.model_copy(update=update)
    sets = read_training_sets(research, _quiet)
    ((test,), seen) = sets.test, {*sets.texts, *(text for data in sets.dev for text in data.texts)}
    assert len(test) == 12  # a fifth of 60
    assert not seen & set(test.texts)
    spread = train_seeds(research, (1, 2), _quiet)
    scores = [json.loads((research.out / f"seed-{seed}" / "result.json").read_text())["test"] for seed in (1, 2)]
    assert spread["test phrasebank accuracy"][0] == pytest.approx(
        sum(score["phrasebank accuracy"] for score in scores) / 2
    )
    assert spread["test phrasebank macro F1"][0] > 0.45  # the words give the labels away; a guess has a third


def test_several_seeds_and_their_ensemble_as_a_teacher(settings: TrainSettings) -> None:
    said: list[str] = []
    spread = train_seeds(settings.model_copy(update={"epochs": 1}), (1, 2), said.append)
    devs = [_dev(settings.out / f"seed-{seed}") for seed in (1, 2)]
    assert spread["dev"][0] == pytest.approx(sum(devs) / 2)
    assert spread["dev"][1] == pytest.approx(abs(devs[0] - devs[1]) / 2**0.5)
    assert (settings.out / "seeds.json").exists()
    teachers = tuple(settings.out / f"seed-{seed}" for seed in (1, 2))
    out = train(settings.model_copy(update={"teachers": teachers, "out": settings.out / "taught"}), said.append)
    assert sum("reads" in line and "teacher" in line for line in said) == 2
    assert (out / _FILES[0]).exists()
    shutil.rmtree(out)


def test_too_little_data_is_said(settings: TrainSettings, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("text,sentiment\nup,good\ndown,bad\n")
    bare = dict.fromkeys(("tfns", "tfnt", "sentfin", "phrasebank"))
    with pytest.raises(ModelError, match="2 rows leave"):
        train(settings.model_copy(update={**bare, "labels": (tmp_path / "mine.csv",), "dev_share": 0.01}), _quiet)
    with pytest.raises(ModelError, match="no training data"):
        train(settings.model_copy(update=bare), _quiet)
    with pytest.raises(ModelError, match="set events to false"):
        train(settings.model_copy(update={**bare, "labels": (tmp_path / "mine.csv",), "events": True}), _quiet)
