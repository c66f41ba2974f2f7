"""What is not told of an answer: tokens in a URL and passwords, in the forms in which services repeat them."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable
from html import escape
from urllib.parse import quote, unquote, unquote_plus, urlsplit

import httpx

_WHOLE_CHARS = 4  # a shorter path, query, pair or password stands in many a word
_PART_CHARS = 12  # a shorter part of a URL is a word


def url_mask(typed: str) -> re.Pattern[str]:
    """Return what finds the repeats of a URL's path, query and user in a text.

    It does not find a part of less than 12 characters that stands alone, nor a part that is cut off.

    >>> url_mask("https://example.org/in?key=hidden").sub("...", "POST /in?key=hidden: unknown key=hidden")
    'POST ...: unknown ...'
    """
    url = httpx.URL(typed)
    wholes, parts = {typed}, {url.username}
    for form in (typed, str(url), str(url.copy_with(params=url.params))):  # as it is set, and as it is sent
        split = urlsplit(form)
        pairs = split.query.split("&")
        wholes |= {form, split.path, f"{split.path}?{split.query}", split.query, split.password or ""}
        wholes |= {split.netloc.rpartition("@")[0], *(pair for pair in pairs if "=" in pair)}
        parts |= {*split.path.split("/"), *(pair.partition("=")[2] or pair for pair in pairs)}
    if url.userinfo:
        wholes |= {url.password, *_logins(url.username, url.password)}
    return _finding([*_forms(wholes, _WHOLE_CHARS), *_forms(parts, _PART_CHARS)])


def password_mask(user: str, password: str) -> re.Pattern[str]:
    """Return what finds the repeats of a password in a text, also as a login sends it."""
    return _finding(_forms({password, *_logins(user, password)} if password else (), _WHOLE_CHARS))


def _logins(user: str, password: str) -> set[str]:
    """Return what HTTP's Basic, and SMTP's PLAIN and LOGIN, send."""
    sent = (f"{user}:{password}", f"\0{user}\0{password}", password)
    return {b64encode(each.encode()).decode() for each in sent}


def _forms(texts: Iterable[str], least: int) -> set[str]:
    found = set(texts)
    found |= {form for each in found for form in (unquote(each), unquote_plus(each))}
    found |= {quote(each, safe="") for each in found}
    found |= {form for each in found for form in (escape(each), escape(each).replace("&#x27;", "&#39;"))}
    found |= {each.replace("/", "\\/") for each in found}  # as some write JSON
    return {each for each in found if len(each) >= least}


def _finding(texts: Iterable[str]) -> re.Pattern[str]:
    """Return what finds any of the texts, the longest first: one may begin another."""
    ordered = sorted({*texts}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered)) or r"(?!)", re.IGNORECASE)  # %2b is %2B
