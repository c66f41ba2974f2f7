"""`newsquake score` and `newsquake train`, as typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.cli import cli


@pytest.fixture
def newsquake(
    tiny_weights: Path, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, list[str], str]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEWSQUAKE_MODEL__WEIGHTS", str(tiny_weights))
    monkeypatch.setenv("NEWSQUAKE_MODEL__ENCODER", str(tiny_encoder))

    def run(*arguments: str, stdin: bytes = b"") -> tuple[int, list[str], str]:
        result = CliRunner().invoke(cli, arguments, input=stdin)
        return result.exit_code, result.stdout.splitlines(), result.stderr

    return run


def test_score_reads_standard_input(newsquake: Callable[..., tuple[int, list[str], str]]) -> None:
    code, lines, _ = newsquake("score", "-", stdin=b"bank fraud\n\noil soars\n")
    assert code == 0
    assert [json.loads(line)["model"].split("+")[0] for line in lines] == ["tiny-1"] * 3


def test_score_takes_the_format_from_the_name(
    newsquake: Callable[..., tuple[int, list[str], str]], tmp_path: Path
) -> None:
    (tmp_path / "news.csv").write_text("id,headline\n1,bank fraud\n")
    code, lines, _ = newsquake("score", "news.csv", "--column", "headline")
    assert (code, len(lines)) == (0, 1)
    (tmp_path / "news.txt").write_text('{"text": "bank fraud"}\nnot json\n')
    code, lines, stderr = newsquake("score", "news.txt", "--format", "jsonl")
    assert (code, len(lines)) == (1, 2)
    assert "1 of 2 records could not be read" in stderr


def test_score_says_what_is_wrong(
    newsquake: Callable[..., tuple[int, list[str], str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "news.csv").write_text("id,headline\n1,bank fraud\n")
    code, lines, stderr = newsquake("score", "news.csv")
    assert (code, lines) == (2, [])
    assert "no column 'text'; it has id, headline" in stderr
    monkeypatch.setenv("NEWSQUAKE_MODEL__WEIGHTS", str(tmp_path))
    code, _, stderr = newsquake("score", "-", stdin=b"a\n")
    assert code == 2
    assert "no weights in" in stderr


def test_train_names_the_wrong_row(
    newsquake: Callable[..., tuple[int, list[str], str]], labelled_sets: Callable[[], dict[str, Path]], tmp_path: Path
) -> None:
    folders = labelled_sets()
    with (folders["tfns"] / "sent_train.csv").open("a") as file:
        file.write("odd,9\n")
    options = [part for name in ("tfns", "tfnt", "sentfin") for part in (f"--{name}", str(folders[name]))]
    code, _, stderr = newsquake("train", *options, "--out", str(tmp_path / "out"))
    assert code == 2
    assert "sent_train.csv: row 62, column 'label': '9'" in stderr
