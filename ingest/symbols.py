"""Companies named by their ticker symbol: cashtags, and symbols that name their exchange.

`$AAPL` and `(NASDAQ: AAPL)` both give `AAPL`. A symbol of an exchange outside the United States gets that exchange's
usual suffix (`(TSX: T)` is Telus, `T.TO`, and not AT&T). A share class is written with a point: `BRK-B` is `BRK.B`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MAX_SYMBOLS = 32

_SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9.\-]{0,15}")
_CASHTAG = re.compile(r"(?<![\w$])\$([A-Za-z]{1,6}(?:[.\-_](?:[A-Z]{1,2}|[a-z]))?)(?![\w$])")
_BRACKETS = re.compile(r"[(\[]([^()\[\]]{3,160}:[^()\[\]]{1,80})[)\]]")
_LISTING = re.compile(
    r"(?i:\b(nasdaq(?:gs|gm|cm)?|nyse(?: american| arca| mkt)?|amex|cboe|otc(?:qb|qx|pk| markets| pink)?"
    r"|tsx[ -]?v|tsx|lse|aim|asx|hkex|sehk|nse|bse))\s?:\s?"
    r"((?:[A-Z0-9][A-Z0-9.\-]{0,9})(?:\s?,\s?[A-Z][A-Z0-9.\-]{0,9}(?![\w:]|\s?:)){0,4})"
)
_SUFFIX = {"tsx": ".TO", "tsxv": ".V", "lse": ".L", "aim": ".L", "asx": ".AX", "hkex": ".HK", "sehk": ".HK"}
_SUFFIX |= {"nse": ".NS", "bse": ".BO"}
# "$USD 5m" is an amount of money, and so is "in $m"; no listed company is meant.
_CURRENCIES = frozenset(
    re.findall(r"\w+", "USD EUR GBP JPY CHF CAD AUD NZD CNY RMB HKD SGD INR BRL MXN ZAR SEK NOK KRW")
)
_UNITS = frozenset({"mn", "bn", "tn", "mm", "mil", "bil"})
_SHARE_CLASS = re.compile(r"[\-_]([A-Z]{1,2})$")


def companies(text: str, also: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the symbols in `text`, in order and each once, then those of `also`; at most `MAX_SYMBOLS`.

    >>> companies("$aapl beats; Berkshire (NYSE: BRK.B) buys $5m of it, not $USD")
    ('AAPL', 'BRK.B')
    """
    found: dict[str, None] = {}
    if "$" in text:
        for tag in _CASHTAG.findall(text):
            if not (tag.upper() in _CURRENCIES or tag in _UNITS or (len(tag) == 1 and tag.islower())):
                found[_with_class(tag.upper())] = None
    if ":" in text:
        for inside in _BRACKETS.findall(text):
            for exchange, listed in _LISTING.findall(inside):
                suffix = _SUFFIX.get(re.sub(r"[ -]", "", exchange.lower()), "")
                for symbol in listed.split(","):
                    found[_with_class(symbol.strip().rstrip(".-")) + suffix] = None
    for symbol in also:
        found[_with_class(symbol.strip().lstrip("$").upper())] = None
    return tuple(symbol for symbol in found if _SYMBOL.fullmatch(symbol))[:MAX_SYMBOLS]


def _with_class(symbol: str) -> str:
    return _SHARE_CLASS.sub(r".\1", symbol) if "-" in symbol or "_" in symbol else symbol
