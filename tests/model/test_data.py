from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.data import (
    labelled_only,
    read_near_copies,
    read_phrasebank,
    read_sentfin,
    read_tfns,
    read_tfnt,
    split,
    with_sentiment,
)
from model.errors import DataError

Sets = Callable[[], dict[str, Path]]


def test_the_sets_are_read_with_their_own_codes(labelled_sets: Sets) -> None:
    folders = labelled_sets()
    tfns = read_tfns(folders["tfns"], "train")
    assert [tfns.sentiment_labels[t] for t in tfns.sentiment[:3]] == ["negative", "neutral", "positive"]
    tfnt = read_tfnt(folders["tfnt"], "valid")
    assert (tfnt.texts[1], tfnt.topic_labels[tfnt.topic[1]]) == ("Acme is sued in court valid", "Legal / Regulation")
    assert len(read_sentfin(folders["sentfin"])) == len(
        read_phrasebank(folders["phrasebank"] / "Sentences_50Agree.txt")
    )
    assert read_near_copies(folders["tfns"]) == {0}
    assert read_near_copies(folders["tfnt"]) == frozenset()


def test_fields_may_hold_quotes_commas_and_line_ends(tmp_path: Path) -> None:
    (tmp_path / "sent_train.csv").write_bytes('\ufefftext,label\r\n"a, ""b""\r\nc\u2028d",2\r\n'.encode())
    assert read_tfns(tmp_path, "train").texts == ('a, "b" c d',)


def test_sentfin_keeps_headlines_whose_entities_agree(tmp_path: Path) -> None:
    (tmp_path / "SEntFiN.csv").write_text(
        "S No.,Title,Decisions,Words\n"
        "1,Both up,\"{'Dr Reddy's': 'positive', 'Moody's': 'positive'}\",2\n"
        "2,One up,\"{'A': 'positive', 'B': 'negative'}\",2\n"
    )
    data = read_sentfin(tmp_path)
    assert [data.sentiment_labels[i] if i >= 0 else None for i in data.sentiment] == ["positive", None]
    assert labelled_only(data).texts == ("Both up",)


def test_phrasebank_splits_at_the_last_at_sign_and_reads_latin_1(tmp_path: Path) -> None:
    path = tmp_path / "Sentences_50Agree.txt"
    path.write_bytes("Mail a@b.example \x85 in Tähti .@neutral\r\n".encode("iso-8859-1"))
    assert read_phrasebank(path).texts == ("Mail a@b.example in Tähti .",)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("text,label\na,0\nb,7\n", r"sent_train.csv: row 3, column 'label': '7'"),
        ("text,kind\na,0\n", r"column 'label' is missing; it has text, kind"),
        ("text,label\na,0,1\n", r"row 2: 3 columns instead of 2"),
        ('text,label\n"a" b,0\n', r"after row"),
        ("text,label\n", r"holds no rows"),
        ("", r"column 'text' is missing"),
        ("text,label\n\xff\xfe,0\n", r"cannot be read"),
    ],
)
def test_a_wrong_file_is_named_with_row_and_column(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "sent_train.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError, match=reason):
        read_tfns(tmp_path, "train")


def test_wrong_topics_decisions_and_labels_are_named(labelled_sets: Sets) -> None:
    folders = labelled_sets()
    (folders["tfnt"] / "train_data.csv").write_text("text,label\na,3\n")
    with pytest.raises(DataError, match="row 2, column 'label': '3' is no number from 0 to 2"):
        read_tfnt(folders["tfnt"], "train")
    (folders["tfnt"] / "labels.json").write_text("[1]")
    with pytest.raises(DataError, match=r"labels\.json"):
        read_tfnt(folders["tfnt"], "train")
    (folders["sentfin"] / "SEntFiN.csv").write_text("Title,Decisions\na,{'A': 'good'}\n")
    with pytest.raises(DataError, match="row 2, column 'Decisions'"):
        read_sentfin(folders["sentfin"])
    (folders["phrasebank"] / "Sentences_50Agree.txt").write_text("fine .@neutral\nnot fine\n")
    with pytest.raises(DataError, match="line 2"):
        read_phrasebank(folders["phrasebank"] / "Sentences_50Agree.txt")
    (folders["tfns"] / "valid_train_overlap.csv").write_text("valid_row,jaccard\nx,1\n")
    with pytest.raises(DataError, match="row 2"):
        read_near_copies(folders["tfns"])
    with pytest.raises(DataError, match="cannot be read"):
        read_sentfin(folders["tfnt"])


@given(st.lists(st.sampled_from([f"text {i}" for i in range(30)])), st.floats(0.05, 0.9))
def test_a_split_loses_nothing_and_keeps_equal_texts_together(texts: list[str], share: float) -> None:
    data = with_sentiment("x", ("a",), [(text, 0) for text in texts])
    rest, held = split(data, share, "test")
    assert sorted(rest.texts + held.texts) == sorted(texts)
    assert not set(rest.texts) & set(held.texts)
    assert split(data, share, "test") == (rest, held)
