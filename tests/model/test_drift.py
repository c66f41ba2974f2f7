"""Drift: silent on the same kind of text, loud on another, and right about the score to expect."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from deploy.cli import cli
from model.drift import Drift, compare
from model.drift_view import View
from model.errors import DataError
from model.expected import expected
from model.settings import DriftSettings, ModelSettings
from model.stretch import Row, Stretch, choose, file_rows, keep, row, stretch

SENTIMENT, TOPICS = ("negative", "neutral", "positive"), ("Earnings", "Macro")
Newsquake = Callable[..., tuple[int, str, str]]


def items(seed: int, n: int = 600, *, lean: float = 0.0, sure: float = 4.0, texts: tuple[str, ...] = ()) -> Stretch:
    """Random probabilities; `lean` moves items towards the first sentiment, `sure` sharpens them."""
    rng = np.random.default_rng(seed)
    sentiment = np.exp(sure * rng.normal(size=(n, 3)) * 0.5 + [lean, 0, 0])
    topic = np.exp(sure * rng.normal(size=(n, 2)) * 0.5)
    sentiment /= sentiment.sum(1, keepdims=True)
    topic /= topic.sum(1, keepdims=True)
    return Stretch(f"seed {seed}", texts, sentiment, topic, SENTIMENT, TOPICS, ("m-1",), n)


def names(report: Drift) -> set[str]:
    return {measure.name for measure in report.measures if measure.drifted}


def test_stretches_of_one_kind_are_no_drift() -> None:
    reports = [compare(items(2 * seed), items(2 * seed + 1), DriftSettings(), None) for seed in range(8)]
    assert [names(report) for report in reports] == [set()] * 8


def test_a_stretch_has_not_moved_from_itself() -> None:
    report = compare(items(1), items(1), DriftSettings(), None)
    assert [measure.value for measure in report.measures] == [0.0] * len(report.measures)
    assert "items without text" in report.remarks[0]


def test_each_measure_sees_its_own_fault() -> None:
    assert "sentiment_mix" in names(compare(items(1), items(2, lean=1.5), DriftSettings(), None))
    unsure = compare(items(1), items(2, sure=1.5), DriftSettings(), None)
    assert {"sentiment_confidence", "topic_confidence", "sentiment_accuracy", "topic_accuracy"} <= names(unsure)
    assert "sentiment_mix" not in names(unsure)
    surer = compare(items(1), items(2, sure=8), DriftSettings(), None)
    assert not {"sentiment_accuracy", "topic_accuracy"} & names(surer), "a rise is no fall"


def test_what_is_large_by_chance_alone_is_no_drift() -> None:
    few = DriftSettings(minimum_items=20, sentiment_mix=0.001, topic_mix=0.001, confidence=0.001)
    report = compare(items(1, 40), items(2, 40), few, None)
    assert any(measure.value > measure.threshold for measure in report.measures)
    assert not report.drifted


def test_columns_are_matched_by_name() -> None:
    turned = items(1)
    turned = Stretch(
        "turned", (), turned.sentiment[:, ::-1], turned.topic, SENTIMENT[::-1], TOPICS, turned.models, len(turned)
    )
    assert {measure.value for measure in compare(turned, items(1), DriftSettings(), None).measures} == {0.0}


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(DataError, match="39 items are too few"):
        compare(items(1), items(2, 39), DriftSettings(), None)
    other = items(1)
    other = Stretch("other", (), other.sentiment, other.topic, ("a", "b", "c"), TOPICS, ("m-2",), len(other))
    with pytest.raises(DataError, match="different sentiment labels"):
        compare(other, items(1), DriftSettings(), None)


def test_the_expected_score_is_what_the_labels_then_show() -> None:
    held = 0
    for seed in range(30):
        side = items(seed, 400).sentiment
        found = expected(side, draws=200, seed=seed)
        truth = (side.cumsum(1) < np.random.default_rng(1_000 + seed).random((400, 1))).sum(1)
        accuracy = float((truth == side.argmax(1)).mean())
        held += found.accuracy_interval[0] <= accuracy <= found.accuracy_interval[1]
        assert found.macro_f1_interval[0] <= found.macro_f1 <= found.macro_f1_interval[1]
    assert held >= 26


def test_words_and_embeddings_tell_other_text_apart(tiny_weights: Path, tiny_encoder: Path) -> None:
    view = View.load(ModelSettings(weights=tiny_weights, encoder=tiny_encoder, device="cpu"))
    plain = [f"{name} reports profit number {n}" for n in range(200) for name in ("acme", "borel")]
    other = [f"\U0001f9a4\U0001f9a4 xqzvkwpt{n} ⴰⵣⵓⵍ" for n in range(200)]
    settings = DriftSettings(minimum_items=100)
    report = compare(items(1, 200, texts=tuple(plain[::2])), items(2, 200, texts=tuple(other)), settings, view)
    assert {"unknown_tokens", "split_words", "embedding"} <= names(report)
    rng = np.random.default_rng(0)
    mixed = [plain[i] for i in rng.permutation(400)]
    same = compare(items(1, 200, texts=tuple(mixed[:200])), items(2, 200, texts=tuple(mixed[200:])), settings, view)
    assert not {"unknown_tokens", "split_words", "embedding"} & names(same)


@given(st.lists(st.integers(0, 50)), st.integers(1, 20), st.randoms())
def test_a_sample_holds_each_story_once_whatever_the_order(keys: list[int], size: int, random) -> None:
    rows = [Row(f"story {key}", None, None, None, "") for key in keys]
    sample = choose([*rows, None], size)
    random.shuffle(rows)
    assert choose(rows, size).rows == sample.rows
    assert len({chosen.key for chosen in sample.rows}) == len(sample.rows) == min(size, len(set(keys)))
    assert (sample.seen, sample.unreadable) == (len(keys), 1)


def test_rows_come_from_scored_records_from_score_and_from_texts() -> None:
    probabilities = {"sentiment_probabilities": {"a": 0.4, "b": 0.6}, "topic_probabilities": {"t": 1.0}, "model": "m"}
    scored = row({"document": {"title": "Acme sinks", "text": "Badly", "story": "s1"}, **probabilities})
    assert scored == Row("s1", "Acme sinks. Badly", {"a": 0.4, "b": 0.6}, {"t": 1.0}, "m")
    assert row(probabilities, 7) == Row("7", None, {"a": 0.4, "b": 0.6}, {"t": 1.0}, "m")
    assert row({"text": "Acme  SINKS"}) == Row("acme sinks", "Acme  SINKS", None, None, "")
    for bad in (None, [], {}, {"error": "line 1"}, {"text": 3}, probabilities | {"topic_probabilities": {"t": 0.5}}):
        assert row(bad) is None


def test_a_kept_stretch_is_read_back(tmp_path: Path) -> None:
    rows = [Row(f"t {n}", f"T {n}", {"a": 0.25, "b": 0.75}, {"t": 1.0}, "m") for n in range(30)]
    sample = choose(rows, 20)
    keep(sample, tmp_path / "kept.jsonl")
    assert sorted(choose(file_rows(tmp_path / "kept.jsonl"), 99).rows) == sorted(sample.rows)


def test_a_stretch_without_text_is_not_scored() -> None:
    probabilities = {"a": 1.0}
    sample = choose([Row("1", None, probabilities, probabilities, "m")], 9)
    with pytest.raises(DataError, match="without text cannot be scored"):
        stretch("file", sample, lambda: pytest.fail("no scorer is needed"), rescore=True)


@pytest.fixture
def newsquake(tiny_weights: Path, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Newsquake:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEWSQUAKE_MODEL__WEIGHTS", str(tiny_weights))
    monkeypatch.setenv("NEWSQUAKE_MODEL__ENCODER", str(tiny_encoder))
    monkeypatch.setenv("NEWSQUAKE_MODEL__BACKEND", "torch")
    monkeypatch.setenv("NEWSQUAKE_DRIFT__MINIMUM_ITEMS", "50")

    def run(*arguments: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(cli, ["drift", *arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.exit_code, result.stdout, result.stderr

    return run


def test_the_command_says_which_measure_drifted(newsquake: Newsquake, tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text("text\n" + "".join(f"Acme reports profit {n}\n" for n in range(120)))
    (tmp_path / "same.csv").write_text("text\n" + "".join(f"Acme reports profit {n}\n" for n in range(120, 240)))
    (tmp_path / "new.csv").write_text("text\n" + "".join(f"xqzvkwpt ⴰⵣⵓⵍ lawsuit {n}\n" for n in range(120)))
    code, out, _ = newsquake("new.csv", "--reference", "old.csv", "--json", "--metrics-file", "drift.prom")
    report = json.loads(out)
    assert (code, report["drifted"]) == (1, True)
    assert "unknown_tokens" in {measure["name"] for measure in report["measures"] if measure["drifted"]}
    families = {f.name: f for f in text_string_to_metric_families((tmp_path / "drift.prom").read_text())}
    drifted = {s.labels["measure"]: s.value for s in families["newsquake_model_drifted"].samples}
    assert drifted == {measure["name"]: float(measure["drifted"]) for measure in report["measures"]}
    assert {s.labels["measure"] for s in families["newsquake_model_drift_threshold"].samples} == drifted.keys()

    code, out, _ = newsquake("same.csv", "--reference", "old.csv")
    assert "reference: old.csv: 120 stories" in out
    assert code == 0, out


def test_the_command_says_why_it_cannot_say(newsquake: Newsquake, tmp_path: Path) -> None:
    (tmp_path / "few.csv").write_text("text\nAcme\n")
    (tmp_path / "odd.csv").write_text("headline\nAcme\n")
    code, _, err = newsquake("few.csv", "--reference", "few.csv")
    assert (code, "1 items are too few" in err) == (2, True)
    code, _, err = newsquake("odd.csv", "--reference", "few.csv")
    assert (code, "column 'text' is missing" in err) == (2, True)
    code, _, err = newsquake()
    assert (code, "kafka.bootstrap_servers is not set" in err) == (2, True)
    code, _, err = newsquake("few.csv")
    assert (code, "needs --reference" in err) == (2, True)
