"""Text from outside, made harmless for a message: one line of what can be seen, and URLs that lead to the web."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

import httpx

from alerts.notes import is_seen

_MENTION = re.compile(r"@(?=\S)")
_MAX_URL = 1_500
_FULLWIDTH = str.maketrans({char: chr(ord(char) + 0xFEE0) for char in "<>[](){}*_`~#|\\!&"})


def clean(text: str, limit: int) -> str:
    r"""Return one line of at most `limit` characters, without controls, direction marks and mentions that could ping.

    >>> clean("Profit\x1b[31m up\u202e\nbig", 100)
    'Profit[31m up big'
    >>> clean("a long headline", 7)
    'a long…'
    """
    text = text[: 4 * limit]
    if not text.isprintable():
        text = "".join(" " if char.isspace() else char for char in text if is_seen(char))
    line = _MENTION.sub("@\u200b", " ".join(text.split()))  # a space of no width: nobody is called @channel
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def fullwidth(text: str) -> str:
    """Return the text with the signs of Markdown and HTML as full-width twins, for services that know no escape.

    >>> fullwidth("[x](y) <b>")
    '［x］（y） ＜b＞'
    """
    return text.translate(_FULLWIDTH)


def safe_url(url: str) -> str:
    """Return a URL that leads to the web and is safe inside any mark-up; empty when it is no such URL.

    >>> safe_url("https://example.org/a(b)|c?q=<x>")
    'https://example.org/a%28b%29%7Cc?q=%3Cx%3E'
    >>> safe_url("javascript:alert(1)")
    ''
    """
    if len(url) > _MAX_URL or any(char.isspace() or unicodedata.category(char)[0] == "C" for char in url):
        return ""
    try:
        parsed = httpx.URL(url)
        if parsed.scheme not in ("http", "https") or not parsed.host or ":" in parsed.host or parsed.userinfo:
            return ""
        text = str(parsed)  # the host in ASCII: a look-alike shows as xn--
    except (httpx.InvalidURL, ValueError):
        return ""
    text = quote(text, safe="/:?#%&=+$,;~-._")
    return text if len(text) <= _MAX_URL else ""


def cut_bytes(text: str, limit: int) -> str:
    """Return as much of the text as has at most `limit` bytes in UTF-8, whole characters."""
    raw = text.encode("utf-8", "replace")
    return text if len(raw) <= limit else raw[: limit - 3].decode("utf-8", "ignore") + "…"
