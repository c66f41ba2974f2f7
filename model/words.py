"""The words of a text as a reader sees them: `$SIVB`, `drug-maker`, `-7.5%` and `U.S.` are one each."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

# Chinese and Japanese put no spaces between words: each character counts as one, as for the tokenizers.
_IDEOGRAPHS = "぀-ヿ㐀-䶿一-鿿豈-﫿"
_PIECE = re.compile(rf"[{_IDEOGRAPHS}]|[^\s—…|{_IDEOGRAPHS}]+")
_BEFORE_A_WORD = frozenset("$#@&€£¥")
_BEFORE_A_NUMBER = frozenset("+-−.")
_AFTER_A_WORD = frozenset("%$€£¥")


class Span(NamedTuple):
    """A word's place: `text[start:stop]`."""

    start: int
    stop: int


def words_of(text: str) -> list[Span]:
    """The places of the words, in order. Punctuation around a word is no part of it; on its own it is no word.

    >>> text = "“Drug-maker's” $ABC sinks -7.5%, (again)!  👎 — why?"
    >>> [text[start:stop] for start, stop in words_of(text)]
    ["Drug-maker's", '$ABC', 'sinks', '-7.5%', 'again', '👎', 'why']
    """
    found = (_trimmed(text, *piece.span()) for piece in _PIECE.finditer(text))
    return [span for span in found if span.start < span.stop]


def _trimmed(text: str, start: int, stop: int) -> Span:
    while start < stop and _is_mark(text[start]) and not _belongs(text, start, stop):
        start += 1
    while start < stop and _is_mark(text[stop - 1]) and text[stop - 1] not in _AFTER_A_WORD:
        stop -= 1
    return Span(start, stop) if any(not _is_mark(char) for char in text[start:stop]) else Span(start, start)


def _belongs(text: str, at: int, stop: int) -> bool:
    following = text[at + 1] if at + 1 < stop else ""
    if text[at] in _BEFORE_A_WORD:
        return following.isalnum() or following in _BEFORE_A_NUMBER
    return text[at] in _BEFORE_A_NUMBER and following.isdigit()


def _is_mark(char: str) -> bool:
    """Punctuation, mathematical and currency signs, and what cannot be seen; an emoji (So) is none."""
    return unicodedata.category(char) in _MARKS


_MARKS = frozenset(
    ("Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Cn", "Mn")
)
