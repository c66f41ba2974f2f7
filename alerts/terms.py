"""What a headline is about, as terms: content words, pairs of neighbours, cashtags.

Words are lower case, without possessives, three letters or more. Stop words are no part of a term, but pairs reach over
them ("Bank of America" gives "bank america"). Words of the calendar and of style, those that any financial headline may
hold, form no term alone nor with their like; beside another word they do ("sales" never, "lumber sales" yes).
"""

from __future__ import annotations

import html
import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

MAX_TERMS = 48
"""Terms taken from one headline, at most; a headline of a newspaper has 10 to 20."""

_TEXT_CHARS = 400
_PHRASE_WORDS = 5
_PHRASE_CHARS = 100
_PHRASE_SHARE = 0.6
_NOISE = re.compile(r"https?://\S*|\bRT @\w+:?|@\w+")
_WORD = re.compile(r"(?:(?<!\w)\$)?[^\W_]+(?:['’.&-][^\W_]+)*['’]?")
_POSSESSIVE = re.compile(r"['’]s?$")
_JOIN = re.compile(r"['’]?[\s#&]+")
_TAG = re.compile(r"(?<![\w$#])[$#][A-Za-z]\w*")
_LIST_TAGS, _LIST_SHARE = 5, 0.4
_PERIOD = re.compile(r"(?:[qh][1-4]|fy|cy)(?:\d{2}|\d{4})?|\d+(?:st|nd|rd|th|[kmb]n?|bps?|pc|x|am|pm)|\d\d?h\d?")
_TICKER = re.compile(r"\$[a-z]{1,6}(?:[.-][a-z]{1,2})?")


@cache
def _words() -> tuple[frozenset[str], frozenset[str]]:
    """Stop words, and words of the calendar and of style."""
    lists = tomllib.loads(files("alerts").joinpath("words.toml").read_text("utf-8"))
    return frozenset(lists["stop"].split()), frozenset(lists["style"].split())


def lists_tags(title: str) -> bool:
    """Say whether a post is a list of cashtags and hashtags rather than words: five or more, two in five of its words.

    >>> lists_tags("Acme Corp. 52 week low -> $ACME $AAPL $FB $NFLX #stocks #invest #pennystocks")
    True
    >>> lists_tags("Bank shares sink again as depositors leave: $KRE down 8 %, $PACW 20 %, $WAL 15 %")
    False
    """
    tags = len(_TAG.findall(title))
    return tags >= _LIST_TAGS and tags >= _LIST_SHARE * len(title.split())


def terms(title: str) -> tuple[str, ...]:
    """Return the terms of a headline, each once, in the order in which they stand; a list of tags has none.

    >>> terms("Silvergate's shares plunge as depositors flee; Bank of America sees $SI at $0 in March")[:4]
    ('silvergate', 'silvergate shares', 'plunge depositors', 'depositors')
    >>> terms("Bank of America sees $SI at $0 in March")
    ('bank', 'bank america', 'america', '$si')
    """
    if lists_tags(title[:_TEXT_CHARS]):
        return ()
    stop, style = _words()
    found: dict[str, None] = {}
    before = ""
    end = 0
    text = _NOISE.sub(" | ", html.unescape(title[:_TEXT_CHARS]))
    for match in _WORD.finditer(text):
        if end != match.start() and not _JOIN.fullmatch(text, end, match.start()):
            before = ""  # punctuation stands between
        end = match.end()
        word = _plain(match.group())
        if word in stop:
            continue
        if word[0] == "$":
            if _TICKER.fullmatch(word):
                found[word] = None
            before = ""
            continue
        if not _counts(word):
            before = ""
            continue
        of_style = word in style
        if before and not (of_style and before in style):
            found[f"{before} {word}"] = None
        if not of_style:
            found[word] = None
        before = word
        if len(found) >= MAX_TERMS:
            break
    return tuple(found)


def is_name(term: str, titles: Sequence[str]) -> bool:
    """Say whether a single word is a name by how headlines write it; pairs and cashtags count as names.

    A word that stands in capitals amid lower case is one, unless others write it small. Headlines in capitals
    throughout, or with Each Word So, tell nothing, and neither does a first word.

    >>> is_name("silvergate", ["Run on Silvergate worries banks", "Silvergate Shares Plunge In Early Trading"])
    True
    >>> is_name("dam", ["The Dam Breaks", "Why the Dam broke last night", "Floods after dam collapse"])
    False
    """
    if " " in term or term[0] == "$":
        return True
    seen = False
    for title in titles:
        words = [match.group() for match in _WORD.finditer(html.unescape(title[:_TEXT_CHARS]))]
        long = [word for word in words[1:] if len(word) > 3 and word[0].isalpha()]
        small = sum(word.islower() for word in long)
        for word in words[1:]:
            if _plain(word) == term:
                if word.islower():
                    return False
                seen |= small * 2 > len(long) or (word.isupper() and not title.isupper())
    return seen


def phrase(term: str, titles: Sequence[str]) -> str:
    """Return the words that best name what the headlines with `term` share, as they are written there.

    It is the longest run of up to five words around the term that 60 % of them, and at least two, have in common;
    stop words and words of style do not stand at its ends.

    >>> phrase("valley", ["Run on Silicon Valley Bank", "SILICON VALLEY BANK FAILS", "Silicon Valley Bank's bonds"])
    'Silicon Valley Bank'
    """
    wanted = term.split()
    spellings: dict[str, Counter[str]] = {}
    support: Counter[str] = Counter()
    for title in titles:
        runs = _runs(title, wanted)
        support.update(runs.keys())
        for run, written in runs.items():
            spellings.setdefault(run, Counter())[written] += 1
    enough = max(2, _PHRASE_SHARE * len(titles))
    shared = [run for run, count in support.items() if count >= enough] or list(support)
    if not shared:
        return term[:_PHRASE_CHARS]
    best = max(shared, key=lambda run: (support[run] >= enough, len(run.split()), support[run], run))
    # Capitals throughout only where nobody writes it otherwise.
    written = max(spellings[best].items(), key=lambda entry: (not entry[0].isupper(), entry[1], entry[0]))[0]
    return written[:_PHRASE_CHARS]


def _runs(title: str, wanted: Sequence[str]) -> dict[str, str]:
    """The runs of words of a title that hold all wanted ones: plain → as written."""
    text = _NOISE.sub(" | ", html.unescape(title[:_TEXT_CHARS]))
    stop, style = _words()
    words: list[tuple[str, int, int]] = []
    breaks: list[int] = []
    for match in _WORD.finditer(text):
        if words and not _JOIN.fullmatch(text, words[-1][2], match.start()):
            breaks.append(len(words))
        words.append((_plain(match.group()), match.start(), match.end()))
    loose = stop | style
    edges = {number for number, (word, _, _) in enumerate(words) if word in loose or not _counts(word)}
    found: dict[str, str] = {}
    for first in range(len(words)):
        for last in range(first, min(first + _PHRASE_WORDS, len(words))):
            if any(first < at <= last for at in breaks):
                break
            plain = [word for word, _, _ in words[first : last + 1]]
            inside = [word for word in plain if word not in stop]
            if not _holds(inside, wanted):
                continue
            core = len(inside) == len(wanted)  # a pair may itself begin or end with a word of style
            if not core and (first in edges or last in edges):
                continue
            if plain[0] in stop or plain[-1] in stop:
                continue
            written = text[words[first][1] : words[last][2]]
            found.setdefault(" ".join(plain), _POSSESSIVE.sub("", " ".join(written.split())))
    return found


def _holds(words: Sequence[str], wanted: Sequence[str]) -> bool:
    size = len(wanted)
    return any(list(words[at : at + size]) == list(wanted) for at in range(len(words) - size + 1))


def _plain(word: str) -> str:
    word = word.lower()
    return word if word in _words()[0] else _POSSESSIVE.sub("", word) or word


def _counts(word: str) -> bool:
    """Three letters at least, and no number, amount or period."""
    return word[0] == "$" or (
        len(word) > 2 and not word.isdigit() and word[0].isalpha() and not _PERIOD.fullmatch(word)
    )
