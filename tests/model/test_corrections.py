"""Corrections from analysts: the good ones are kept, the latest and the most count, and training reads the result."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.cli import cli
from model.corrections import Known, show, take
from model.errors import DataError
from model.label_file import read_labels

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
KNOWN = Known(("negative", "neutral", "positive"), ("Earnings", "Markets"))


def said(text: str, by: str, hour: int = 9, **labels: str) -> bytes:
    return json.dumps({"text": text, "by": by, "at": f"2026-11-24T{hour:02}:00:00Z", **labels}).encode()


def put(path: Path, *lines: bytes, weight: float = 5.0):
    return take(lines, path, KNOWN, weight=weight, now=NOW)


def test_training_reads_what_was_taken(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    put(
        path,
        said("Acme is sued", "an", sentiment="negative", topic="Markets"),
        said("Borel meets", "an", topic="Markets"),
    )
    data = read_labels(path, KNOWN.sentiment, KNOWN.topic)
    assert data.texts == ("Acme is sued", "Borel meets")
    assert (data.sentiment, data.topic, data.weight) == ((0, -1), (1, 1), (5.0, 5.0))


def test_an_authors_latest_word_counts_whatever_the_order(tmp_path: Path) -> None:
    late, early = (
        said("Acme", "an", 10, sentiment="negative"),
        said("Acme", "an", 8, sentiment="positive", topic="Markets"),
    )
    for place, lines in enumerate(((late, early), (early, late))):
        (label,) = put(tmp_path / f"{place}.jsonl", *lines).labels
        assert (label.sentiment, label.topic) == ("negative", "Markets"), (
            "a later word on one says nothing of the other"
        )


def test_most_authors_win_and_ties_are_left_out_until_decided(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    taken = put(path, said("Acme", "an", sentiment="negative"), said("Acme", "bo", sentiment="positive"))
    assert taken.labels == ()
    assert taken.ties[0].votes == {"negative": ["an"], "positive": ["bo"]}
    assert path.read_text() == ""
    taken = put(path, said(" Acme ", "cy", sentiment="positive"))
    assert (taken.labels[0].sentiment, taken.ties) == ("positive", ())
    assert show(path).labels == taken.labels


def test_wrong_lines_are_named_and_the_others_taken(tmp_path: Path) -> None:
    good = said("Acme", "an", sentiment="negative")
    wrong = {
        b"not json": "JSON",
        b"[1]": "Expected `object`",
        said("Acme", "an"): "neither",
        said("Acme", "an", sentiment="bad"): "'bad' is none of negative, neutral, positive",
        said("https://t.co/x", "an", sentiment="negative"): "no words",
        said("Acme", "", sentiment="negative"): "length",
        said("Acme", "an", 14, sentiment="negative"): "future",
        said("Acme", "an", sentimnt="negative", topic="Markets"): "sentimnt",
        b'{"text": "Acme", "by": "an", "at": "yesterday", "topic": "Markets"}': "$.at",
        b'{"text": "Acme", "by": "an", "at": "2026-11-24T09:00:00", "topic": "Markets"}': "timezone",
        b"\xff\xfe": "line 12",
        b"[" * 200_000: "line 13",
    }
    taken = put(tmp_path / "labels.jsonl", good, *wrong)
    assert (taken.new, len(taken.labels), len(taken.rejected)) == (1, 1, len(wrong))
    for number, (line, why) in enumerate(zip(taken.rejected, wrong.values(), strict=True), 2):
        assert line.startswith(f"line {number}: ")
        assert why in line


def test_the_same_file_twice_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    lines = [said(f"Acme {n}", "an", sentiment="negative") for n in range(5)]
    put(path, *lines)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    taken = put(path, *lines)
    assert (taken.new, taken.repeated) == (0, 5)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    put(path, weight=2.0)
    assert set(read_labels(path).weight) == {2.0}


def test_labels_that_a_full_disk_kept_out_are_written_by_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    put(path, said("Acme", "an", sentiment="negative"))
    full = tmp_path / "labels.jsonl.partial"
    full.symlink_to("/dev/full")
    with pytest.raises(DataError, match="No space left"):
        put(path, said("Borel", "an", sentiment="negative"))
    full.unlink(missing_ok=True)
    assert put(path, said("Borel", "an", sentiment="negative")).repeated == 1, "the corrections were kept"
    assert read_labels(path).texts == ("Acme", "Borel")


def test_two_analysts_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: put(path, said(f"Acme {n}", "an", sentiment="negative")), range(40)))
    assert len(read_labels(path)) == len(show(path).labels) == 40


def test_labels_that_are_no_corrections_are_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text('{"text": "mine", "sentiment": "negative"}\n')
    with pytest.raises(DataError, match="was not made from corrections"):
        put(path, said("Acme", "an", sentiment="negative"))
    assert "mine" in path.read_text()


@pytest.fixture
def label(tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEWSQUAKE_MODEL__WEIGHTS", str(tiny_weights))

    def run(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        result = CliRunner().invoke(cli, ["label", *arguments], input=stdin)
        return result.exit_code, result.stdout, result.stderr

    return run


def test_the_command_takes_the_labels_of_the_present_model(label: Callable[..., tuple[int, str, str]]) -> None:
    good, strange = said("Acme", "an", sentiment="negative"), said("Borel", "an", topic="Weather")
    code, out, err = label("-", stdin=good + b"\n" + strange)
    assert code == 1
    assert "1 new, 0 known before, 1 rejected" in out
    assert "line 2: 'topic': 'Weather' is none of Earnings" in err
    assert label("-", "--new-labels", stdin=strange)[0] == 0
    code, out, _ = label("--list")
    assert (code, out.splitlines()[:2]) == (0, ["negative (an): Acme", "Weather (an): Borel"])
    assert json.loads(label("--list", "--json")[1])["labels"][0]["authors"] == ["an"]
    assert label()[0] == 2
