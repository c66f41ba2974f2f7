"""`newsquake score` and `newsquake train`, as typed."""

from __future__ import annotations

import json
import re
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


def test_explain_shows_signs_where_there_are_no_colours(newsquake: Callable[..., tuple[int, list[str], str]]) -> None:
    code, lines, _ = newsquake("explain", "Bank fraud \x1b[31m& shares\u202e", "-", stdin=b"oil\n\n")
    assert code == 0
    assert len([line for line in lines if re.match(r"(negative|neutral|positive) 0\.\d\d  ", line)]) == 3
    assert re.search(r"\w\[[+-]\d+\.\d\]", lines[1])
    assert re.sub(r"\[[+-]\d+\.\d\]", "", lines[1]) == "  Bank fraud [31m& shares"
    assert not set("".join(lines)) & set("\x1b\u202e")


def test_explain_as_json(newsquake: Callable[..., tuple[int, list[str], str]]) -> None:
    code, lines, _ = newsquake("explain", "--json", "--topic", "-", stdin=b"bank fraud\n\xff $ABC\n")
    first, second = map(json.loads, lines)
    assert (code, first["text"], second["text"]) == (0, "bank fraud", "\ufffd $ABC")
    assert first["label"] in first["probabilities"]
    assert first["probability"] == max(first["probabilities"].values())
    assert [(word["word"], word["start"], word["stop"]) for word in first["words"]] == [
        ("bank", 0, 4),
        ("fraud", 5, 10),
    ]
    assert second["words"][-1]["word"] == "$ABC"


def test_explain_as_a_page_and_by_gradients(
    newsquake: Callable[..., tuple[int, list[str], str]], tmp_path: Path
) -> None:
    code, lines, _ = newsquake("explain", "--html", "why.html", "--method", "integrated-gradients", "bank <b>fraud</b>")
    assert (code, lines) == (0, [])
    assert "&lt;" in (tmp_path / "why.html").read_text("utf-8")


def test_explain_says_what_is_wrong(newsquake: Callable[..., tuple[int, list[str], str]], tmp_path: Path) -> None:
    code, _, stderr = newsquake("explain", "--html", "why.html", "--label", "furious", "bank fraud")
    assert code == 2
    assert "no sentiment 'furious'" in stderr
    assert newsquake("explain", "--html", "a.html", "--json", "bank")[0] == 2
    assert newsquake("explain", "--html", "no/such/folder/why.html", "bank")[0] == 1
