"""From the bytes of a feed to its entries, in bounded memory and time whatever the bytes are.

feedparser reads what twenty years of broken feeds ask for, and trusts them: an entity, a base address, a language or a
namespace is copied once for each tag that it covers, so that a small feed can fill any memory. Its two parsers are
driven here, the strict one and then the loose one, with limits on whatever is copied so; what stands before the first
element, entities among it, they never see.
"""

from __future__ import annotations

import codecs
import io
import re
import time
import xml.sax
import xml.sax.handler
from typing import Any

from feedparser.api import LooseFeedParser, StrictFeedParser

_MAX_TAGS = 200_000
_MAX_NAME_CHARS = 500
_MAX_NAMESPACES = 100
_MAX_URL_CHARS = 2_048
_MAX_CPU_S = 30.0

_CHARSET = re.compile(r"""charset\s*=\s*["']?([\w.:-]{1,40})""", re.IGNORECASE | re.ASCII)
_ENCODING = re.compile(r"""\s*<\?xml\s[^>]*?encoding\s*=\s*["']([\w.:-]{1,40})""", re.ASCII)
_USUAL = re.compile(r"utf-(8|16(-[lb]e)?)|ascii|iso8859-\d+|cp125\d|koi8-[ru]|gb18030|big5|shift_jis|cp932|euc_(jp|kr)")
_REFERENCE = re.compile(r"&#(?:[xX]([0-9a-fA-F]+)|([0-9]+));")
_NO_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_ABSOLUTE = re.compile(r"https?://[^/\s]", re.IGNORECASE)


class FeedError(ValueError):
    """The bytes are no feed, or one that could only be read without limits."""


def read_feed(body: bytes, *, content_type: str, language: str, url: str) -> tuple[list[Any], bool]:
    """Return the entries of a feed as feedparser has them, and whether it was broken (read as far as possible).

    Args:
        body: the feed.
        content_type: its Content-Type header, or an empty string.
        language: its Content-Language header, or an empty string.
        url: where it came from; relative ids become absolute by it.

    Raises:
        FeedError: it is no feed, or too much of something.
    """
    text = _decoded(body, content_type)
    first = re.search(r"<\w", text)
    text = _with_valid_references(text[first.start() :]) if first else ""
    about = (url[:_MAX_URL_CHARS], language[:_MAX_NAME_CHARS] or None, "utf-8")
    parser: Any = _Strict(*about)
    problem = None
    try:
        _parse_strictly(parser, text)
    except xml.sax.SAXException as exc:
        problem = exc
        parser = _Loose(*about, {})
        parser.feed(text)
    if not parser.entries and not parser.version:
        raise FeedError(f"is not a feed ({problem or 'no entries'})")
    return list(parser.entries), problem is not None


class _Limits:
    """Keeps what feedparser copies for each tag short, and the tags few enough."""

    resolve_relative_uris = False
    sanitize_html = False
    namespaces_in_use: dict[str, str]

    def __init__(self, *args: Any) -> None:
        self._tags = 0
        self._until_s = time.thread_time() + _MAX_CPU_S
        super().__init__(*args)

    def unknown_starttag(self, tag: str, attrs: list[tuple[str, str]]) -> None:
        self._tags += 1
        if self._tags > _MAX_TAGS:
            raise FeedError(f"has more than {_MAX_TAGS} tags")
        if len(tag) > _MAX_NAME_CHARS:
            raise FeedError(f"has a tag of {len(tag)} characters")
        self._look_at_the_clock()
        super().unknown_starttag(tag, [attr for attr in attrs if _harmless(*attr)])  # type: ignore[misc]  # of the parser that this is mixed into

    def unknown_endtag(self, tag: str) -> None:
        self._look_at_the_clock()
        super().unknown_endtag(tag)  # type: ignore[misc]  # of the parser that this is mixed into

    def track_namespace(self, prefix: str | None, uri: str) -> None:
        if len(prefix or "") + len(uri) > _MAX_NAME_CHARS or len(self.namespaces_in_use) >= _MAX_NAMESPACES:
            raise FeedError("has a namespace that is too long, or too many of them")
        super().track_namespace(prefix, uri)  # type: ignore[misc]  # of the parser that this is mixed into

    # Nobody here asks for authors and tags, and both take time that grows with the square of what they find.
    def _sync_author_detail(self, key: str = "author") -> None:
        pass

    def _add_tag(self, term: object, scheme: object, label: object) -> None:
        self._get_context().setdefault("tags", [])  # type: ignore[attr-defined]  # of the parser that this is mixed into

    def _look_at_the_clock(self) -> None:
        if time.thread_time() > self._until_s:
            raise FeedError(f"takes more than {_MAX_CPU_S:g} s to parse")


class _Strict(_Limits, StrictFeedParser):  # type: ignore[misc]  # feedparser is untyped
    pass


class _Loose(_Limits, LooseFeedParser):  # type: ignore[misc]  # feedparser is untyped
    pass


def _harmless(name: str, value: str) -> bool:
    """Say whether an attribute may stay. Relative base addresses may not: nested, they grow without end."""
    match name.lower():
        case "base" | "xml:base":
            return len(value) <= _MAX_NAME_CHARS and _ABSOLUTE.match(value) is not None
        case "lang" | "xml:lang":
            return len(value) <= _MAX_NAME_CHARS
    return True


def _parse_strictly(parser: Any, text: str) -> None:
    reader = xml.sax.make_parser()  # noqa: S317  (no entity can be declared: what stands before the root is gone)
    reader.setFeature(xml.sax.handler.feature_namespaces, True)
    reader.setFeature(xml.sax.handler.feature_external_ges, False)
    reader.setContentHandler(parser)
    reader.setErrorHandler(parser)
    source = xml.sax.xmlreader.InputSource()
    source.setEncoding("utf-8")
    source.setByteStream(io.BytesIO(text.encode("utf-8")))
    reader.parse(source)


def _decoded(body: bytes, content_type: str) -> str:
    """Return the text: by its first bytes, the server, its own claim, or else the encodings that are left."""
    claims = (_sniffed(body), _CHARSET.search(content_type), _ENCODING.match(body[:1_000].decode("latin-1")))
    for name in [claim if isinstance(claim, str) else claim[1] for claim in claims if claim] + ["utf-8", "cp1252"]:
        try:
            codec = codecs.lookup(name).name
            codec = "gb18030" if codec in {"gb2312", "gbk"} else codec
            if _USUAL.fullmatch(codec):  # others, as punycode and unicode_escape, take long or give anything
                return body.decode(codec)
        except (LookupError, UnicodeDecodeError):
            continue
    return body.decode("latin-1")


def _sniffed(body: bytes) -> str:
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return {b"<\0": "utf-16-le", b"\0<": "utf-16-be"}.get(body[:2], "utf-8" if body.startswith(codecs.BOM_UTF8) else "")


def _with_valid_references(text: str) -> str:
    """Return `text` with pairs of surrogates joined, and U+FFFD for references to what is no character.

    >>> _with_valid_references("&#55357;&#56832; &#x110000; &#0; &#65;")
    '\U0001f600 \ufffd \ufffd &#65;'
    """
    text = _REFERENCE.sub(_character, text)
    if _SURROGATE.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _character(reference: re.Match[str]) -> str:
    digits = (reference[1] or reference[2]).lstrip("0") or "0"
    number = int(digits, 16 if reference[1] else 10) if len(digits) <= 7 else 0
    if 0xD800 <= number < 0xE000:
        return chr(number)
    return "\ufffd" if number > 0x10FFFF or _NO_XML.match(chr(number)) else reference[0]
