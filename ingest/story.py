"""The story key: the same for retweets and reprints of the same words, so that copies meet in one partition."""

from __future__ import annotations

import hashlib
import re

_RETWEET = re.compile(r"^(?:\s*(?:rt|mt|via)\s+@\w{1,50}\s*:?\s*)+", re.IGNORECASE)
_NOISE = re.compile(r"(?:https?://|www\.)\S*|@\w{1,50}", re.IGNORECASE)
_CASHTAG = re.compile(r"\$[A-Za-z][\w.\-]{0,15}")
_WORD = re.compile(r"[^\W_]+")
# "... - Reuters", "... | The Wall Street Journal": up to five capitalised words after a dash or bar.
_SUFFIX = re.compile(
    r"\s[-\u2013\u2014|]\s(?:(?:The|the|of|and|&)\s)?[A-Z][\w.&'\u2019]*(?:\s(?:[A-Z][\w.&'\u2019]*|of|and|&|the)){0,4}$"
)
_FEW_WORDS = 3


def story_key(title: str, publisher: str) -> str:
    """Return the key of the story that a clean `title` tells: 32 hex digits.

    Case, punctuation, URLs, mentions, "RT @x:" in front, a publisher's name at the end, and the order of cashtags do
    not matter. A title of fewer than three words ("Market update") says too little to be the same story elsewhere; its
    key is the publisher's own.

    >>> story_key("Fed raises rates by 25 points - Reuters", "a") == story_key("FED raises rates by 25 points!", "b")
    True
    """
    text = _RETWEET.sub("", title)
    if " - " in text or "|" in text or "\u2013" in text or "\u2014" in text:
        head = _SUFFIX.sub("", text)
        if len(_WORD.findall(head)) >= _FEW_WORDS:
            text = head
    tags: list[str] = []
    if "$" in text:
        tags = sorted({tag.rstrip(".-_").upper() for tag in _CASHTAG.findall(text)})
        text = _CASHTAG.sub(" ", text)
    if "@" in text or "://" in text or "www." in text:
        text = _NOISE.sub(" ", text)
    words = _WORD.findall(text.casefold())
    own = "" if len(words) + len(tags) >= _FEW_WORDS else f"{publisher}\n{'' if words or tags else title}"
    told = f"{' '.join(words)}\n{' '.join(tags)}\n{own}"
    return hashlib.blake2b(told.encode("utf-8", "replace"), digest_size=16).hexdigest()
