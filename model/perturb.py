"""Small changes that a reader would overlook: for training that overlooks them too, and for testing that it does.

Each takes a text and a random generator and returns another text; most leave a text alone that has no place for them.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

_WORD = re.compile(r"[A-Za-z]{4,}")
_NEXT = {a: b for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm") for a, b in zip(row, row[1:] + row[-2], strict=True)}
_EMOJI = ("\U0001f4c8", "\U0001f4c9", "\U0001f440", "\U0001f914", "\U0001f4f0", "\u26a0\ufe0f", "\U0001f6a8")
_TAGS = ("#stocks", "#markets", "#investing", "#breaking", "#news")


def typo(text: str, rng: np.random.Generator) -> str:
    """One slip of the fingers in a word: two letters swapped, one left out, doubled or taken from the next key."""
    words = list(_WORD.finditer(text))
    if not words:
        return text
    start, end = words[rng.integers(len(words))].span()
    at = int(rng.integers(start + 1, end - 1))  # the first letter stays: it is seldom mistyped
    kind = rng.integers(4)
    if kind == 0:
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    if kind == 1:
        return text[:at] + text[at + 1 :]
    if kind == 2:
        return text[:at] + text[at] + text[at:]
    return text[:at] + _NEXT.get(text[at].lower(), text[at]) + text[at + 1 :]


def upper_case(text: str, rng: np.random.Generator) -> str:
    """All capitals."""
    return text.upper()


def lower_case(text: str, rng: np.random.Generator) -> str:
    """No capitals."""
    return text.lower()


def url(text: str, rng: np.random.Generator) -> str:
    """A shortened link at the end."""
    letters = string.ascii_letters + string.digits
    return f"{text} https://t.co/{''.join(letters[i] for i in rng.integers(len(letters), size=10))}"


def emoji(text: str, rng: np.random.Generator) -> str:
    """One of a few emoji at an end."""
    sign = _EMOJI[rng.integers(len(_EMOJI))]
    return f"{sign} {text}" if rng.random() < 0.5 else f"{text} {sign}"


def hashtag(text: str, rng: np.random.Generator) -> str:
    """A hashtag that says nothing, at the end."""
    return f"{text} {_TAGS[rng.integers(len(_TAGS))]}"


def cashtag(text: str, rng: np.random.Generator) -> str:
    """A made-up cashtag at the start."""
    return f"${''.join(string.ascii_uppercase[i] for i in rng.integers(26, size=4))} {text}"


def number(text: str, rng: np.random.Generator) -> str:
    """Each number's last digit replaced by another."""
    return re.sub(r"\d(?!\d)", lambda found: str((int(found[0]) + int(rng.integers(1, 10))) % 10), text)


def full_stop(text: str, rng: np.random.Generator) -> str:
    """With a full stop at the end, or without the one it has."""
    return text[:-1] if text.endswith(".") else f"{text}."


PERTURBATIONS: Mapping[str, Callable[[str, np.random.Generator], str]] = MappingProxyType(
    {
        "typo": typo,
        "upper case": upper_case,
        "lower case": lower_case,
        "URL": url,
        "emoji": emoji,
        "hashtag": hashtag,
        "cashtag": cashtag,
        "number": number,
        "full stop": full_stop,
    }
)


def perturb(text: str, rng: np.random.Generator) -> str:
    """One or two of the changes, chosen at random."""
    kinds = tuple(PERTURBATIONS.values())
    for kind in rng.choice(len(kinds), size=int(rng.integers(1, 3)), replace=False):
        text = kinds[kind](text, rng)
    return text
