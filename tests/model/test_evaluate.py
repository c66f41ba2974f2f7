from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner

from deploy.cli import cli
from model import report
from model.baselines import LEXICON, MAJORITY, TFIDF
from model.errors import DataError
from model.evaluate import Mistake, Report, evaluate
from model.few_shot import few_shot
from model.label_file import EVENTS
from model.labels import SENTIMENT
from model.lexicon import lexicon
from model.reading import Reader
from model.robustness import CHANGES, robustness
from model.scorer import Scorer, Scores
from model.settings import EvaluateSettings, ModelSettings
from model.test_sets import Task, read_tasks

HOSTILE = "</td><script>alert(1)</script> $x^{ & \" --> <img src=http://evil.test/x onerror='alert(2)'>"


@pytest.fixture
def tiny_settings(tiny_weights: Path, tiny_encoder: Path) -> ModelSettings:
    return ModelSettings(weights=tiny_weights, encoder=tiny_encoder, device="cpu")


@pytest.fixture
def tiny_report(tiny_settings: ModelSettings, labelled_sets: Callable[[], dict[str, Path]]) -> Report:
    wanted = EvaluateSettings(**labelled_sets(), perturbed_texts=10, samples=100, baselines=False)
    return evaluate(wanted, [tiny_settings])


def task(texts: Sequence[str], truth: Sequence[int], labels: tuple[str, ...] = SENTIMENT) -> Task:
    return Task("x.sentiment", "X", "all rows", "sentiment", labels, tuple(texts), np.array(truth), frozenset(), (), ())


def test_each_set_is_judged_in_its_protocol(labelled_sets: Callable[[], dict[str, Path]]) -> None:
    tasks = {each.key: each for each in read_tasks(EvaluateSettings(**labelled_sets()))}
    assert len(tasks["tfns.sentiment"].texts) == 60
    assert tasks["tfns.sentiment"].copies == {0}  # as published, not the pair of 0.75
    assert len(tasks["phrasebank.sentiment"].texts) == 60
    assert 0 < len(tasks["sentfin.sentiment"].texts) < 20
    held_out = set(tasks["sentfin.sentiment"].texts)
    assert not held_out & {text for data in tasks["phrasebank.sentiment"].train for text in data.texts}
    assert {"events.sentiment", "events.topic"} <= tasks.keys()
    events = tasks["events.topic"]
    assert not set(events.texts) & {text for data in events.train if data.name == "events" for text in data.texts}


def test_a_users_file_is_judged_on_its_test_part_and_by_source(tmp_path: Path) -> None:
    path = tmp_path / "desk.csv"
    rows = ["text,sentiment,part,source", "Acme up,positive,train,wire", "Borel down,negative,test,wire"]
    path.write_text("\n".join([*rows, "Cento flat,neutral,test,forum"]))
    found = {each.key: each for each in read_tasks(EvaluateSettings(labels=(path,)))}["desk.sentiment"]
    assert found.texts == ("Borel down", "Cento flat")
    assert found.groups == ("wire", "forum")
    assert [data.texts for data in found.train] == [("Acme up",)]


def test_near_copies_of_training_rows_are_found_where_none_are_published(tmp_path: Path) -> None:
    seen = json.loads(EVENTS.read_text("utf-8").split("\n", 1)[0])
    path = tmp_path / "desk.jsonl"
    path.write_text("\n".join(json.dumps({"text": t, "sentiment": "neutral"}) for t in ("Never seen", seen["text"])))
    found = {each.key: each for each in read_tasks(EvaluateSettings(labels=(path,)))}["desk.sentiment"]
    assert found.copies == {1}


def test_models_and_baselines_stand_beside_each_other(
    tiny_settings: ModelSettings, labelled_sets: Callable[[], dict[str, Path]]
) -> None:
    wanted = EvaluateSettings(**labelled_sets(), perturbed_texts=5, samples=100)
    found = evaluate(wanted, [tiny_settings, tiny_settings])
    (version,) = found.models  # the same weights are judged once
    tfns = found.sets["tfns.sentiment"]
    assert tfns.baselines[TFIDF].all.accuracy.value == 1  # the words give the labels away
    assert tfns.baselines[MAJORITY].all.accuracy.value == pytest.approx(1 / 3)
    assert tfns.baselines[LEXICON].all.accuracy.value == 1
    assert LEXICON not in found.sets["tfnt.topic"].baselines
    assert tfns.models[version].own_head is not None
    assert found.sets["phrasebank.sentiment"].models[version].own_head is None
    without = tfns.models[version].served.without_copies
    assert without is not None
    assert (tfns.rows, without.rows) == (60, 59)
    assert "events.topic" not in found.sets  # the tiny weights have other topics
    assert sum(part.rows for part in tfns.models[version].by_length) == 60
    sure = [mistake.confidence for mistake in tfns.models[version].mistakes]
    assert sure == sorted(sure, reverse=True)


def test_two_weights_are_compared_on_the_same_rows(
    tiny_settings: ModelSettings, labelled_sets: Callable[[], dict[str, Path]], tmp_path: Path
) -> None:
    assert tiny_settings.weights is not None
    other = tmp_path / "other"
    other.mkdir()
    for file in tiny_settings.weights.iterdir():
        text = file.read_bytes()
        (other / file.name).write_bytes(text.replace(b"tiny-1", b"tiny-2"))
    wanted = EvaluateSettings(tfns=labelled_sets()["tfns"], perturbed_texts=5, samples=100, baselines=False)
    found = evaluate(wanted, [tiny_settings, tiny_settings.model_copy(update={"weights": other})])
    first, second = found.models
    results = found.sets["tfns.sentiment"].models
    assert results[first].gain is None
    assert results[second].gain is not None
    assert results[second].gain.value == 0
    assert results[first].served == results[second].served


def test_what_is_read_head_by_head_is_what_is_served(tiny_settings: ModelSettings, tiny_scorer: Scorer) -> None:
    texts = ["Acme soars", "Borel & Sons are sued", "", "Cento " * 20, "Acme soars https://t.co/abc"]
    reading = Reader.load(tiny_settings).read(texts)
    served = tiny_scorer.score(texts)
    np.testing.assert_allclose(reading.heads.mean(1), served.sentiment, atol=0.05)  # bfloat16 or not
    assert reading.pooled.shape == (5, 32)
    assert not np.allclose(reading.raw_heads, reading.heads)  # the tiny weights have temperatures


def test_a_set_with_a_label_that_the_model_lacks_is_refused(tiny_settings: ModelSettings, tmp_path: Path) -> None:
    path = tmp_path / "desk.csv"
    path.write_text("text,sentiment\nAcme up,ecstatic\n")
    with pytest.raises(DataError, match="ecstatic"):
        evaluate(EvaluateSettings(labels=(path,), baselines=False), [tiny_settings])


def test_weights_with_labels_of_their_own_need_a_set_of_their_own(tiny_settings: ModelSettings, tmp_path: Path) -> None:
    assert tiny_settings.weights is not None
    own = tmp_path / "own"
    shutil.copytree(tiny_settings.weights, own)
    config = json.loads((own / "config.json").read_text())
    config["sentiment_labels"] = ["calm", "angry", "glad"]
    (own / "config.json").write_text(json.dumps(config))
    settings = tiny_settings.model_copy(update={"weights": own})
    with pytest.raises(DataError, match="give a file with its labels"):
        evaluate(EvaluateSettings(baselines=False), [settings])
    path = tmp_path / "desk.csv"
    path.write_text("text,sentiment\nAcme up,glad\nBorel down,angry\n")
    found = evaluate(EvaluateSettings(labels=(path,), perturbed_texts=2, samples=100), [settings])
    assert found.sets.keys() == {"desk.sentiment"}
    assert found.sets["desk.sentiment"].baselines.keys() == {MAJORITY}  # no training rows have such labels


class _ByCase:
    """Says 1 of texts in capitals and 0 of others."""

    def score(self, texts: Sequence[str]) -> Scores:
        upper = np.array([text.isupper() for text in texts])
        both = np.stack([~upper, upper], axis=1).astype(np.float32)
        return Scores(both, both)


def test_robustness_counts_labels_that_move_and_only_texts_that_change() -> None:
    found = robustness(_ByCase(), [task(["Acme rises", "Borel falls 3%", "cento waits"], [2, 0, 1])], 3, 1)  # type: ignore[arg-type]  # stands in for a scorer
    assert found.kept["upper case"].sentiment == 0
    assert found.kept["lower case"].sentiment == 1
    assert found.kept["number"].texts == 1
    assert found.kept["lower case"].texts == 2
    assert found.usual.sentiment == pytest.approx(0.8)
    assert found.kept.keys() == CHANGES.keys()
    assert found.negation_must_differ == 0  # it never says that a pair differs
    assert len(found.wrong_pairs) > 10


def test_few_labels_help_where_the_network_tells_the_labels_apart() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(300) % 3
    pooled = (np.eye(3)[truth] * 3 + rng.normal(size=(300, 3))).astype(np.float32)
    told = task([f"word{place} said" for place in truth], truth.tolist())
    found = few_shot(told, pooled, np.zeros(300, np.int64), 1, lambda _: None)
    assert [point.labels for point in found.embeddings] == [50, 200, 240]
    assert found.no_labels.accuracy == pytest.approx(1 / 3)
    assert found.embeddings[-1].macro_f1 > 0.9
    assert found.embeddings[-1].macro_f1 > found.no_labels.macro_f1
    assert found.tfidf[-1].macro_f1 == 1  # the words give the labels away


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Acme profit soars to a record", "positive"),
        ("Acme sued over fraud", "negative"),
        ("Acme did not fail the test", "positive"),
        ("Acme meets on Monday", "neutral"),
        ("", "neutral"),
    ],
)
def test_word_list(text: str, label: str) -> None:
    assert SENTIMENT[lexicon([text])[0]] == label


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data", "action")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


def test_the_page_escapes_hostile_texts_and_asks_for_nothing(tiny_report: Report) -> None:
    version = tiny_report.models[0]
    key = "tfns.sentiment"
    found = tiny_report.sets[key]
    model = found.models[version]
    evil = replace(
        found,
        title=HOSTILE,
        labels=(HOSTILE, *found.labels[1:]),
        models={HOSTILE: replace(model, mistakes=(Mistake(HOSTILE, HOSTILE, HOSTILE, 0.9),))},
    )
    curves = few_shot(
        task(["a b"] * 120, [i % 3 for i in range(120)]),
        np.eye(120, 4, dtype=np.float32),
        np.zeros(120, np.int64),
        1,
        str,
    )
    page = report.page(
        replace(
            tiny_report,
            models=(HOSTILE,),
            sets={HOSTILE: evil},
            robustness={HOSTILE: tiny_report.robustness[version]},
            few_shot={HOSTILE: curves},
        )
    )
    tags = _Tags()
    tags.feed(page)
    assert not {"script", "img", "link", "iframe", "object"} & set(tags.tags)
    assert tags.tags.count("svg") == 4
    assert not tags.handlers
    assert all(link.startswith("#") for link in tags.links)
    assert "alert(1)" in page  # it is shown, as text
    assert "url(http" not in page


def test_pictures_are_whole_and_take_the_pages_colours(tiny_report: Report) -> None:
    page = report.page(tiny_report)
    pictures = [part.split("</svg>")[0] + "</svg>" for part in page.split("<svg")[1:]]
    assert len(pictures) == 2 + len(tiny_report.sets)
    ids: list[str] = []
    for picture in pictures:
        root = ElementTree.fromstring("<svg" + picture)
        clips = [each.get("id") or "" for each in root.iter() if each.tag.endswith("clipPath")]
        ids += clips
        assert "currentColor" in picture
    assert len(ids) == len(set(ids))


@pytest.fixture
def command(tiny_settings: ModelSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CliRunner:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEWSQUAKE_MODEL__WEIGHTS", str(tiny_settings.weights))
    monkeypatch.setenv("NEWSQUAKE_MODEL__ENCODER", str(tiny_settings.encoder))
    return CliRunner()


def test_the_command_prints_a_table_and_writes_the_report(
    command: CliRunner, labelled_sets: Callable[[], dict[str, Path]], tmp_path: Path
) -> None:
    folders = labelled_sets()
    options = ["--tfns", folders["tfns"], "--tfnt", folders["tfnt"], "--sentfin", folders["sentfin"]]
    options += ["--phrasebank", folders["phrasebank"], "--no-baselines", "--samples", "100", "--out", "judged"]
    done = command.invoke(cli, ["evaluate", *map(str, options)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "| TFNS, sentiment, no near copies | 59 |" in done.stdout
    assert "labels kept under typo" in done.stdout
    found = json.loads((tmp_path / "judged" / "report.json").read_bytes())
    (version,) = found["models"]
    served = found["sets"]["tfns.sentiment"]["models"][version]["served"]
    assert served["all"]["accuracy"].keys() == {"value", "low", "high"}
    assert 0 <= served["ece"] <= 1
    assert 0 < served["ece_by_chance"] < 0.5
    assert found["robustness"][version]["usual"].keys() == {"texts", "sentiment", "topic"}
    assert (tmp_path / "judged" / "report.html").read_text("utf-8").startswith("<!doctype html>")


def test_the_command_says_where_data_are_bad(command: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "desk.csv").write_text("text,sentiment\nAcme up,positive\n,negative\n")
    done = command.invoke(cli, ["evaluate", "--labels", str(tmp_path / "desk.csv"), "--no-baselines"])
    assert done.exit_code == 2
    assert "desk.csv: row 3, column 'text'" in done.stderr
    assert not (tmp_path / "evaluation").exists()


def test_the_command_prints_json(command: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "desk.csv").write_text("text,sentiment\nAcme up,positive\nBorel down,negative\n")
    options = ["--labels", "desk.csv", "--no-baselines", "--samples", "100", "--json"]
    done = command.invoke(cli, ["evaluate", *options], catch_exceptions=False)
    assert json.loads(done.stdout)["sets"]["desk.sentiment"]["rows"] == 2
