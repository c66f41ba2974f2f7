"""`newsquake train` as typed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.cli import cli
from model.settings import TrainSettings

ROOT = Path(__file__).parents[2]


def _run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, arguments)
    return result.exit_code, result.stdout, result.stderr


def test_every_setting_is_an_option_with_its_text() -> None:
    code, text, _ = _run("train", "--help")
    assert code == 0
    words = " ".join(text.split())
    for name, field in TrainSettings.model_fields.items():
        assert f"--{name.replace('_', '-')} " in words
        assert " ".join(str(field.description).split())[:40] in words.replace("- ", "-")


@pytest.mark.parametrize("name", ["base", "small-start", "small-slow", "small", "research", "research-base"])
def test_the_recipes_are_settings(name: str, tmp_path: Path) -> None:
    code, _, stderr = _run("train", "--config", str(ROOT / "model/recipes" / f"{name}.toml"), "--tfns", str(tmp_path))
    assert code == 2
    assert "sent_train.csv" in stderr or "PhraseBank" in stderr  # as far as the data


def test_mistakes_are_named_in_one_line(tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    for content, reason in (
        ("epochs = 0", "run.toml: epochs: Input should be greater than or equal to 1"),
        ("epoch = 1", "run.toml: epoch: Extra inputs are not permitted"),
        ("epochs = ", "run.toml cannot be read"),
    ):
        config.write_text(content)
        code, _, stderr = _run("train", "--config", str(config))
        assert code == 2
        assert reason in stderr
        assert len(stderr.splitlines()) == 1
    code, _, stderr = _run("train", "--dropout", "1.5")
    assert (code, "the options: dropout: " in stderr) == (2, True)
    assert _run("train", "--seeds", "1,x")[0] == 2
    assert _run("train", "--seeds", "1,1")[0] == 2


def test_a_topic_that_no_stream_could_count_is_refused_before_training(
    labelled_sets: Callable[[], dict[str, Path]], tmp_path: Path
) -> None:
    out = str(tmp_path / "out")
    labels = tmp_path / "mine.csv"
    labels.write_text("text,topic\nBrent falls,Oil; gas\nA bank falls,Banks\n")
    code, _, stderr = _run("train", "--labels", str(labels), "--no-events", "--out", out)
    assert (code, "mine.csv: topic 'Oil; gas' cannot name a series" in stderr) == (2, True)
    tfnt = labelled_sets()["tfnt"]
    (tfnt / "labels.json").write_text('{"0": "a=b", "1": "b", "2": "c"}')
    code, _, stderr = _run("train", "--tfnt", str(tfnt), "--out", out)
    assert (code, "topic 'a=b' cannot name a series" in stderr) == (2, True)


def test_options_win_over_the_file_and_seeds_go_into_folders(
    labelled_sets: Callable[[], dict[str, Path]], tiny_encoder: Path, tmp_path: Path
) -> None:
    folders = labelled_sets()
    config = tmp_path / "run.toml"
    config.write_text(
        f'tfns = "{folders["tfns"]}"\nencoder = "{tiny_encoder}"\nepochs = 9\nevents = false\ntfidf_share = 0.0\n'
        'dev_share = 0.2\nthreads = 1\nversion = "mine"\n'
    )
    out = tmp_path / "out"
    options = ("--config", str(config), "--epochs", "1", "--out", str(out), "--seeds", "3,4")
    code, stdout, stderr = _run("train", *options)
    assert code == 0, stderr
    assert "dev: mean" in stdout
    for seed in (3, 4):
        assert {"weights.safetensors", "config.json", "run.json", "result.json", "metrics.jsonl", "curves.png"} <= {
            path.name for path in (out / f"seed-{seed}").iterdir()
        }
    assert '"epochs": 1,' in (out / "seed-3" / "run.json").read_text()


def test_tensorboard_is_asked_for_only_by_option(
    labelled_sets: Callable[[], dict[str, Path]], tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorboard", None)
    data = ("--tfns", str(labelled_sets()["tfns"]), "--encoder", str(tiny_encoder))
    options = (
        *data,
        "--no-events",
        "--dev-share",
        "0.2",
        "--tfidf-share",
        "0",
    )
    code, _, stderr = _run("train", *options, "--tensorboard", "--epochs", "1", "--out", str(tmp_path / "out"))
    assert code == 2
    assert "tensorboard is not installed: pip install tensorboard" in stderr
