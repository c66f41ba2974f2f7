"""Promotion: a worse model is refused, a better one put in place whole, and the one before comes back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.metrics import accuracy_score, f1_score

from deploy.cli import cli
from model.errors import ModelError
from model.label_file import read_events
from model.measures import calibration
from model.paired import changes
from model.promote import Limits, compare
from model.scorer import Scores
from model.store import Store, Weights
from model.test_sets import Task

LABELS = ("negative", "neutral", "positive")
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
EVERY = ("accuracy", "macro F1", "calibration error")


def answers(truth: np.ndarray, right: float, rng: np.random.Generator, sure: float | None = None) -> np.ndarray:
    """Probabilities whose best label is right in this share, and as sure as that unless said otherwise."""
    guess = np.where(rng.random(len(truth)) < right, truth, (truth + 1) % 3)
    table = np.full((len(truth), 3), (1 - (sure or right)) / 2, np.float32)
    table[np.arange(len(truth)), guess] = sure or right
    return table


class Answers:
    """A scorer that has an answer for each text."""

    def __init__(self, version: str, texts: tuple[str, ...], table: np.ndarray) -> None:
        self.version = version
        self.sentiment_labels: tuple[str, ...] = LABELS
        self.topic_labels: tuple[str, ...] = ("Macro",)
        self._rows = dict(zip(texts, table, strict=True))

    def score(self, texts: list[str]) -> Scores:
        return Scores(np.array([self._rows[text] for text in texts]), np.ones((len(texts), 1), np.float32))


def task(truth: np.ndarray, copies: frozenset[int] = frozenset(), labels: tuple[str, ...] = LABELS) -> Task:
    texts = tuple(f"text {n}" for n in range(len(truth)))
    return Task("set.sentiment", "Set, sentiment", "", "sentiment", labels, texts, truth, copies, (), ())


def verdict(old: np.ndarray, new: np.ndarray, truth: np.ndarray, limits: Limits | None = None) -> tuple[str, ...]:
    judged = task(truth)
    sides = Answers("old", judged.texts, old), Answers("new", judged.texts, new)
    return compare([judged], *sides, limits or Limits()).refused


def test_scores_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=500)
    old, new = answers(truth, 0.8, rng), answers(truth, 0.7, rng)
    accuracy, macro, error = changes(truth, old, new, samples=200)
    for side, table in (("old", old), ("new", new)):
        guess = table.argmax(1)
        assert getattr(accuracy, side) == pytest.approx(accuracy_score(truth, guess))
        assert getattr(macro, side) == pytest.approx(f1_score(truth, guess, average="macro"))
        assert getattr(error, side) == pytest.approx(calibration(table, truth).error)
    assert accuracy.low < accuracy.new - accuracy.old < accuracy.high < 0


def test_a_model_has_not_changed_from_itself() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=100)
    old = answers(truth, 0.8, rng)
    assert [change[3:] for change in changes(truth, old, old)] == [(0.0, 0.0, 0.0)] * 3


def test_a_worse_model_is_refused_and_the_reason_says_by_how_much() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=1_000)
    first, *_ = reasons = verdict(answers(truth, 0.9, rng), answers(truth, 0.8, rng), truth)
    assert len(reasons) == 2
    assert first.startswith("Set, sentiment: accuracy falls from 0.9")
    assert "0.005 is tolerated" in first
    assert verdict(answers(truth, 0.9, rng), answers(truth, 0.8, rng), truth, Limits(tolerance=0.2)) == ()


def test_better_or_equal_models_pass() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=1_000)
    assert verdict(answers(truth, 0.8, rng), answers(truth, 0.9, rng), truth) == ()
    equals = [verdict(answers(truth, 0.85, rng), answers(truth, 0.85, rng), truth) for _ in range(10)]
    assert sum(map(bool, equals)) <= 2, "noise alone seldom refuses"


def test_a_model_that_is_too_sure_is_refused() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=1_000)
    (reason,) = verdict(answers(truth, 0.85, rng), answers(truth, 0.86, rng, sure=0.98), truth)
    assert "calibration error rises" in reason


def test_rows_with_copies_in_training_do_not_count_and_sets_with_other_labels_are_left_out() -> None:
    truth = np.array([0, 1, 2, 0] * 50)
    judged = task(truth, copies=frozenset(range(100)))
    side = Answers("m", judged.texts, answers(truth, 0.9, np.random.default_rng(0)))
    other = task(truth, labels=("bad", "good", "none"))
    found = compare([judged, other], side, side, Limits())
    assert [each.rows for each in found.sets] == [100]
    assert "m has other labels" in found.left_out[0]
    with pytest.raises(ModelError, match="cannot be compared"):
        compare([other], side, side, Limits())


def test_a_model_that_lost_labels_is_refused_and_they_are_named() -> None:
    truth = np.array([0, 1, 2] * 20)
    judged = task(truth)
    old, new = (Answers(name, judged.texts, answers(truth, 0.9, np.random.default_rng(0))) for name in ("old", "new"))
    new.topic_labels = ()
    assert compare([judged], old, new, Limits()).refused == ("new lacks the topic labels Macro",)
    assert compare([judged], new, old, Limits()).refused == (), "more labels are no loss"
    new.sentiment_labels = ("bearish", "neutral", "bullish")
    assert compare([judged], old, new, Limits()).refused == (
        "new lacks the sentiment labels negative, positive",
        "new lacks the topic labels Macro",
    ), "also when no set is left to compare on"


@pytest.fixture
def weights(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a run folder with a checkpoint in it."""

    def make(name: str) -> Path:
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        for file in ("config.json", "weights.safetensors", "checkpoint.pt"):
            (folder / file).write_text(f"{name} {file}")
        return folder

    return make


def test_weights_are_put_in_place_whole_and_come_back(weights: Callable[[str], Path], tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    one, two, three = (weights(name) for name in ("one", "two", "three"))
    store.promote(Weights("v2+ab", two), Weights("v1+cd", one), NOW, {})
    shutil.rmtree(one)  # what is in place needs no run folder
    assert (store.current / "config.json").read_text() == "two config.json"
    assert (store.previous / "config.json").read_text() == "one config.json"
    assert not (store.current / "checkpoint.pt").exists()
    store.promote(Weights("v3+ef", three), Weights("v2+ab", store.current.resolve()), NOW, {})
    assert (store.previous / "config.json").read_text() == "two config.json"
    store.roll_back(NOW)
    assert (store.current / "config.json").read_text() == "two config.json"
    store.roll_back(NOW)
    assert (store.current / "config.json").read_text() == "three config.json"
    log = [json.loads(line)["what"] for line in (store.folder / "promotions.jsonl").read_text().splitlines()]
    assert log == ["promoted", "promoted", "rolled back", "rolled back"]


def _killed_before(monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    """The process ends when this link is about to be moved."""
    link = Store._link

    def killed(self: Store, name: str, target: str) -> None:
        if name == which:
            raise KeyboardInterrupt
        link(self, name, target)

    monkeypatch.setattr(Store, "_link", killed)


def test_a_kill_between_the_two_links_leaves_the_present_weights(
    weights: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    one, two, three = (weights(name) for name in ("one", "two", "three"))
    store.promote(Weights("v2", two), Weights("v1", one), NOW, {})
    _killed_before(monkeypatch, "current")
    with pytest.raises(KeyboardInterrupt):
        store.promote(Weights("v3", three), Weights("v2", two), NOW, {})
    monkeypatch.undo()
    assert (store.current / "config.json").read_text() == "two config.json"
    store.promote(Weights("v3", three), Weights("v2", two), NOW, {})
    assert (store.current / "config.json").read_text() == "three config.json"


def test_a_rollback_killed_between_the_two_links_is_told_by_the_log(
    weights: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    store.promote(Weights("v2", weights("two")), Weights("v1", weights("one")), NOW, {})
    _killed_before(monkeypatch, "previous")
    with pytest.raises(KeyboardInterrupt):
        store.roll_back(NOW)
    monkeypatch.undo()
    assert store.current.resolve() == store.previous.resolve()
    now, before = store.roll_back(NOW)
    assert (store.current / "config.json").read_text() == "two config.json"
    assert (store.previous / "config.json").read_text() == "one config.json"
    assert (now.startswith("v2."), before.startswith("v1.")) == (True, True)


def test_weights_that_cannot_be_noted_are_not_put_in_place(weights: Callable[[str], Path], tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    one, two, three = (weights(name) for name in ("one", "two", "three"))
    store.promote(Weights("v2", two), Weights("v1", one), NOW, {})
    log = store.folder / "promotions.jsonl"
    log.unlink()
    log.symlink_to("/dev/full")
    with pytest.raises(ModelError, match="No space left"):
        store.promote(Weights("v3", three), Weights("v2", two), NOW, {})
    with pytest.raises(ModelError, match="No space left"):
        store.roll_back(NOW)
    assert (store.current / "config.json").read_text() == "two config.json"
    assert (store.previous / "config.json").read_text() == "one config.json"


def test_what_cannot_be_put_in_place_is_said(weights: Callable[[str], Path], tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(ModelError, match="no previous weights"):
        store.roll_back(NOW)
    one = weights("one")
    with pytest.raises(ModelError, match="in place already"):
        store.promote(Weights("v1", one), Weights("v1", one), NOW, {})
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        store.promote(Weights("v2", tmp_path), Weights("v1", one), NOW, {})
    assert not store.current.exists()


@pytest.fixture
def promote(
    tiny_weights: Path, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEWSQUAKE_MODEL__WEIGHTS", str(tiny_weights))
    monkeypatch.setenv("NEWSQUAKE_MODEL__ENCODER", str(tiny_encoder))
    monkeypatch.setenv("NEWSQUAKE_MODEL__BACKEND", "torch")

    def run(*arguments: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(cli, ["promote", *arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.stdout, result.stderr

    return run


def test_the_command_refuses_promotes_by_force_and_goes_back(
    promote: Callable[..., tuple[int, str, str]], tiny_weights: Path, tmp_path: Path
) -> None:
    code, _, err = promote(str(tiny_weights))
    assert (code, "in place already" in err) == (2, True), "an equal one is not worse, and there is nothing to do"
    unsure = tmp_path / "unsure"
    shutil.copytree(tiny_weights, unsure)
    config = json.loads((unsure / "config.json").read_text())
    config["temperature"] = {"tfns": 0.02, "sentfin": 0.02, "topic": 0.02}
    (unsure / "config.json").write_text(json.dumps(config))
    rows = read_events("test").take(range(150))
    own = [{"text": t, "sentiment": rows.sentiment_labels[s]} for t, s in zip(rows.texts, rows.sentiment, strict=True)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in own))
    labels = ("--labels", "own.jsonl")

    code, out, _ = promote(str(unsure), *labels)
    assert code == 1, out
    assert "calibration error rises" in out
    assert "refused: tiny-1" in out
    current = tmp_path / ".newsquake" / "weights" / "current"
    assert not current.exists()

    code, out, _ = promote(str(unsure), *labels, "--force")
    assert code == 0, out
    assert f"set model.weights (NEWSQUAKE_MODEL__WEIGHTS) to {current}" in out
    assert json.loads((current / "config.json").read_text())["temperature"]["topic"] == 0.02
    code, out, _ = promote("--rollback")
    assert code == 0, out
    assert json.loads((current / "config.json").read_text())["temperature"]["topic"] == 1.2

    code, out, _ = promote(str(unsure), *labels, "--json")
    report = json.loads(out)
    assert (code, report["promoted"]) == (1, False)
    assert [change["score"] for change in report["sets"][0]["changes"]] == list(EVERY)
    assert promote()[0] == promote(str(unsure), "--rollback")[0] == 2


def test_the_command_says_which_encoder_the_weights_in_place_need(
    promote: Callable[..., tuple[int, str, str]],
    tiny_weights: Path,
    tiny_encoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    new, other = tmp_path / "new", tmp_path / "other"
    shutil.copytree(tiny_weights, new)
    shutil.copytree(tiny_encoder, other)
    config = json.loads((new / "config.json").read_text())
    (new / "config.json").write_text(json.dumps(config, indent=1))
    code, out, _ = promote(str(new), "--encoder", "other")
    assert code == 0, out
    assert f"set model.encoder (NEWSQUAKE_MODEL__ENCODER) to {other}\n" in out
    monkeypatch.setenv("NEWSQUAKE_MODEL__ENCODER", str(other))
    _, out, _ = promote("--rollback")
    assert f"set model.encoder (NEWSQUAKE_MODEL__ENCODER) to {tiny_encoder}\n" in out
    _, out, _ = promote("--rollback")
    assert "NEWSQUAKE_MODEL__ENCODER" not in out, "it is set already"
