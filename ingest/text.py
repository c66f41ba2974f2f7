"""Clean text: no mark-up, entities, URLs, control or invisible characters; NFC; single spaces.

Replays clean tens of thousands of items a second, so each step first asks whether there is anything to do.
"""

from __future__ import annotations

import html
import re
import unicodedata
from urllib.parse import urlsplit

from lxml import etree

# Control characters that are not white space, soft hyphen, zero-width and bidirectional marks, surrogates,
# non-characters, and the invisible "tag" characters.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ufdd0-\ufdef\ufeff\uffa0\ufff0-\ufffc\ufffe\uffff\U000e0000-\U000e0fff]"
)
_TAG = re.compile(r"<[a-zA-Z/!?][^<>]{0,4000}>")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});?")
# Python refuses to read a number of more than 4,300 digits.
_LONG_NUMBER = re.compile(r"&#[0-9]{8,};?")
_URL = re.compile(r"(?:\bhttps?://|\bwww\.|\bpic\.twitter\.com/|\bt\.co/)\S*", re.IGNORECASE)
_BLOCKS = "address article blockquote br dd div dl dt figcaption h1 h2 h3 h4 h5 h6 hr li ol p pre section td th tr ul"
# Feeds escape once too often, rarely more; what is nested deeper is an attack and stays as it is.
_MAX_ROUNDS = 4


def clean(raw: str, max_chars: int = 20_000) -> str:
    """Return `raw` as plain text of at most `max_chars` characters, cut at the end of a word where possible.

    Work is bounded: of longer input only the first `8 * max_chars` characters are read.
    """
    text = _fold(raw[: 8 * max_chars])
    if "<" in text or "&" in text:
        text = _fold(_without_markup(text))
    if "://" in text or "." in text:
        text = _URL.sub(" ", text)
    text = " ".join(text.split())
    if len(text) <= max_chars:
        return text
    cut = text.rfind(" ", max_chars * 9 // 10, max_chars + 1)
    return text[: cut if cut > 0 else max_chars].rstrip()


def clean_url(raw: str) -> str:
    """Return `raw` if it is an absolute http(s) URL of at most 2,048 printable characters, else an empty string."""
    url = raw.strip()
    if len(url) > 2_048 or not url.isprintable() or " " in url:
        return ""
    try:
        parts = urlsplit(url)
        usable = parts.scheme.lower() in {"http", "https"} and bool(parts.hostname)
    except ValueError:  # "http://[::1" and its like
        return ""
    return url if usable else ""


def _fold(text: str) -> str:
    """Return `text` in NFC without invisible characters; white space stays."""
    if not text.isprintable():  # a line break is enough to look closer
        text = _INVISIBLE.sub("", text)
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _without_markup(text: str) -> str:
    for _ in range(_MAX_ROUNDS):
        if _TAG.search(text):
            text = _text_of_html(text)
        elif _ENTITY.search(text):
            text = html.unescape(_LONG_NUMBER.sub("\ufffd", text))
        else:
            break
        text = _INVISIBLE.sub("", text)
    return text


def _text_of_html(markup: str) -> str:
    """Return the text a reader would see, with a space where a block begins or ends."""
    parser = etree.HTMLParser(encoding="utf-8", no_network=True, remove_comments=True, remove_pis=True)
    try:
        root = etree.fromstring(f"<div>{markup}</div>".encode(), parser)
    except etree.XMLSyntaxError:  # nothing in it that looks like a document
        root = None
    if root is None:
        return _TAG.sub(" ", markup)
    etree.strip_elements(root, "script", "style", "noscript", "template", with_tail=False)
    for block in root.iter(*_BLOCKS.split()):
        block.text = f" {block.text or ''}"
        block.tail = f" {block.tail or ''}"
    text = "".join(root.itertext())
    # The parser stops at 256 levels of nesting; then the tags alone are taken out.
    return text if text.strip() else _TAG.sub(" ", markup)
