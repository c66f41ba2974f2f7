"""What the network reads of a text: the same cleaning in training and in scoring."""

from __future__ import annotations

import html
import re

MAX_CHARS = 20_000  # bounds the work a text can cause: about 50 windows of 96 tokens

_URL = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
_CONTROL_OR_SPACE = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


def clean(text: str) -> str:
    """The text without HTML entities, URLs (they are half of a tweet's tokens and say nothing) and odd spaces.

    Cashtags stay: `$AAPL` tells a stock from a word. What is no valid Unicode becomes `?`.
    """
    text = html.unescape(text[:MAX_CHARS])
    text = text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates
    return _CONTROL_OR_SPACE.sub(" ", _URL.sub(" ", text)).strip()
