"""A word list as a baseline: what counting good and bad words of finance gives, for sentiment in English only.

The list is our own, made before any set was looked at.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.labels import SENTIMENT

WORDS = Path(__file__).parent / "data" / "words.toml"
_REACH = 3  # words after a negation that it turns round
_WORD = re.compile(r"[a-z']+")


def lexicon(texts: Sequence[str]) -> NDArray[np.int64]:
    """Places in `model.labels.SENTIMENT`, one a text: good words less bad ones, turned round just after a negation.

    >>> [SENTIMENT[i] for i in lexicon(["Acme profit soars", "Acme did not fail", "Acme meets"])]
    ['positive', 'positive', 'neutral']
    """
    lists = tomllib.loads(WORDS.read_text("utf-8"))
    good, bad = _pattern(lists["good"]), _pattern(lists["bad"])
    negations = frozenset(lists["not"].split())
    return np.array([SENTIMENT.index(_label(text, good, bad, negations)) for text in texts], np.int64)


def _label(text: str, good: re.Pattern[str], bad: re.Pattern[str], negations: frozenset[str]) -> str:
    balance, since = 0, _REACH + 1
    for word in _WORD.findall(text.lower().replace("\u2019", "'")):
        since += 1
        if word in negations:
            since = 0
            continue
        value = bool(good.fullmatch(word)) - bool(bad.fullmatch(word))
        balance += -value if since <= _REACH else value
    return "positive" if balance > 0 else "negative" if balance < 0 else "neutral"


def _pattern(words: str) -> re.Pattern[str]:
    return re.compile("|".join(word.replace("*", "[a-z']*") for word in words.split()))
