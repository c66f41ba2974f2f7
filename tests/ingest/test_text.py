import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.text import clean, clean_url


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Fed holds rates", "Fed holds rates"),
        ("<p>AT&amp;T <b>beats</b></p><p>Shares up</p>", "AT&T beats Shares up"),
        ("AT&amp;amp;T &lt;b&gt;beats&lt;/b&gt;", "AT&T beats"),
        ("P/E < 5 and rising > 3", "P/E < 5 and rising > 3"),
        ("<script>alert(1)</script>Bank<style>p{}</style> fails", "Bank fails"),
        ("a<!-- hidden -->b", "ab"),
        ("Down 5% http://t.co/x1 and www.example.com/a more", "Down 5% and more"),
        ("see http://\u2026", "see"),
        ("zero\u200bwidth \ufeffmark\u00ad \u202eevil", "zerowidth mark evil"),
        ("cafe\u0301", "caf\u00e9"),
        ("a\x00b\x07c\tline\r\nbreak\u00a0nbsp", "abc line break nbsp"),
        ("lone \ud800 surrogate", "lone surrogate"),
        ("&#8203;&#0;&nbsp;x&hellip;", "\ufffd x\u2026"),
        (f"&amp; &#{'9' * 5_000}; &amp;#{'9' * 5_000};", "& \ufffd \ufffd"),
        ("https://example.com/only", ""),
        ("", ""),
    ],
)
def test_clean(raw: str, expected: str) -> None:
    assert clean(raw) == expected


@given(st.text(st.characters() | st.sampled_from("<>&;/ab\ud800\x00\u200b\u0301#p"), max_size=300), st.integers(1, 80))
def test_clean_text_is_plain_whatever_comes_in(raw: str, max_chars: int) -> None:
    text = clean(raw, max_chars)
    assert len(text) <= max_chars
    assert text == " ".join(text.split())
    assert text.isascii() or unicodedata.is_normalized("NFC", text)
    assert not any(unicodedata.category(char) in {"Cc", "Cs"} for char in text)
    text.encode()


@given(st.text(st.characters(exclude_characters="&<"), max_size=300))
def test_cleaning_again_changes_nothing(raw: str) -> None:
    assert clean(clean(raw)) == clean(raw)


def test_a_cut_falls_between_words() -> None:
    assert clean("word " * 100, 48) == "word word word word word word word word word"


@pytest.mark.parametrize(
    "nasty", ["<" * 500_000, "<div>" * 100_000 + "deep", "&amp;" * 100_000 + "lt;", "<script>" * 60_000]
)
def test_hostile_markup_is_bounded(nasty: str) -> None:
    assert len(clean(nasty)) <= 20_000


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        (" https://example.com/a?b=1 ", True),
        ("HTTP://EXAMPLE.com", True),
        ("javascript:alert(1)", False),
        ("file:///etc/passwd", False),
        ("/relative", False),
        ("https://", False),
        ("http://[::1", False),
        ("https://e.com/\x00", False),
        ("https://e.com/" + "a" * 2_048, False),
    ],
)
def test_only_web_addresses_are_kept(raw: str, kept: bool) -> None:
    assert clean_url(raw) == (raw.strip() if kept else "")
