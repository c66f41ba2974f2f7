from __future__ import annotations

import io
import json

import pytest

from model.errors import DataError
from model.score_file import Format, format_of, score_stream
from model.scorer import Scorer


def _run(scorer: Scorer, content: bytes, kind: Format, column: str = "text") -> tuple[list[dict[str, object]], int]:
    out = io.BytesIO()
    summary = score_stream(io.BytesIO(content), out, scorer, kind, column)
    answers = [json.loads(line) for line in out.getvalue().splitlines()]
    assert sum(summary) == len(answers)
    assert sum("error" in answer for answer in answers) == summary.unreadable
    return answers, summary.unreadable


def test_a_line_of_json_a_text_in_the_order_given(tiny_scorer: Scorer) -> None:
    texts = [f"bank {'fraud ' * (i % 7)} {i}" for i in range(1_200)]
    answers, unreadable = _run(tiny_scorer, "\n".join(texts).encode(), "lines")
    assert (len(answers), unreadable) == (1_200, 0)
    answer = answers[700]
    expected = tiny_scorer.score([texts[700]])
    assert (answer["number"], answer["text"]) == (701, texts[700])
    assert answer["model"] == tiny_scorer.version
    sentiments, topics = answer["sentiment_probabilities"], answer["topic_probabilities"]
    assert tuple(sentiments) == tiny_scorer.sentiment_labels
    assert tuple(topics) == tiny_scorer.topic_labels
    assert list(sentiments.values()) == pytest.approx(expected.sentiment[0].tolist(), abs=0.03)
    assert answer["sentiment"] == max(sentiments, key=sentiments.get)
    assert answer["topic"] == max(topics, key=topics.get)


def test_empty_odd_and_huge_lines_are_texts_too(tiny_scorer: Scorer) -> None:
    content = b"\xef\xbb\xbfone\r\n\n\xff\xfe\x00bad\n" + b"x" * 3_000_000 + b"\nlast"
    answers, unreadable = _run(tiny_scorer, content, "lines")
    assert (len(answers), unreadable) == (5, 0)
    alone = _run(tiny_scorer, b"one", "lines")[0][0]["sentiment_probabilities"]
    assert answers[0]["sentiment_probabilities"] == pytest.approx(
        alone, abs=1e-3
    )  # which batch it is in matters a little


def test_nothing_in_nothing_out(tiny_scorer: Scorer) -> None:
    assert _run(tiny_scorer, b"", "lines") == ([], 0)
    assert _run(tiny_scorer, b"", "jsonl") == ([], 0)


def test_csv_rows_by_column(tiny_scorer: Scorer) -> None:
    content = b'id,headline\n1,"bank, ""fraud""\nin two lines"\n2\n3,\n'
    answers, unreadable = _run(tiny_scorer, content, "csv", "headline")
    assert unreadable == 1
    assert answers[1] == {"number": 2, "error": "line 4: 1 columns, 'headline' is number 2"}
    single, _ = _run(tiny_scorer, b"text\na\n\nb\n", "csv")
    assert len(single) == 3


def test_a_stray_quote_does_not_swallow_the_rest_of_a_large_file(tiny_scorer: Scorer) -> None:
    content = b'text\n"never closed\n' + b"bank fraud\n" * 30_000
    answers, unreadable = _run(tiny_scorer, content, "csv")
    assert 1 <= unreadable < 10
    assert "sentiment" in answers[-2]


@pytest.mark.parametrize("content", [b"", b"title\nx\n"])
def test_csv_without_the_column_is_refused(tiny_scorer: Scorer, content: bytes) -> None:
    with pytest.raises(DataError, match="no column 'text'"):
        _run(tiny_scorer, content, "csv")


def test_broken_json_lines_give_an_error_in_their_place(tiny_scorer: Scorer) -> None:
    deep = b"[" * 100_000
    lines = [
        b'{"text": "bank fraud"}',
        b"{",
        b"[1]",
        b'{"text": 3}',
        b"",
        deep,
        b'{"text": "\xff \\u0000"}',
        b'{"text": ""}',
    ]
    answers, unreadable = _run(tiny_scorer, b"\n".join(lines), "jsonl")
    assert ["error" in answer for answer in answers] == [False, True, True, True, True, True, False, False]
    assert unreadable == 5
    assert answers[3]["error"] == "line 4: not an object with a string 'text'"


def test_the_format_follows_the_name() -> None:
    names = {"a.csv": "csv", "A.CSV": "csv", "a.jsonl": "jsonl", "a.ndjson": "jsonl", "a.txt": "lines", "-": "lines"}
    assert {name: format_of(name) for name in names} == names
