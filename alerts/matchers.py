"""Matchers over an alert's labels, in Alertmanager's grammar: `company="JPM", severity!="warning", topic=~"A|B"`.

Routes, silences and the desk use them. Regular expressions are RE2's, as Alertmanager's are: they take time in
proportion to the text, whatever the pattern, so that nobody can hang alerting by one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal, get_args

import msgspec
import re2

from alerts.alert import Alert
from alerts.series import company_of, kind, label
from alerts.spelling import listed, near

Operator = Literal["=", "!=", "=~", "!~"]

LABELS = ("series", "kind", "topic", "company", "theme", "name", "severity", "state", "group", "rule")
MAX_LENGTH = 1_000
_MAX_MATCHERS = 50
_MAX_REGEX_BYTES = 1 << 20
_OPERATORS: tuple[str, ...] = get_args(Operator)
_SPECIAL = frozenset('{}",')


class MatcherError(ValueError):
    """A text or its parts are no matcher; the message says what is wrong and what to write."""


class Matcher(msgspec.Struct, frozen=True, order=True):
    """One condition on one label. A label that an alert lacks counts as empty; a regex must fit the whole value.

    Raises:
        MatcherError: no label has that name, or the value cannot be used.
    """

    name: str
    op: Operator
    value: str

    def __post_init__(self) -> None:
        if self.name not in LABELS:
            raise MatcherError(
                f"no label is called {self.name[:60]!r}{near(self.name, LABELS) or f'; there are: {listed(LABELS)}'}"
            )
        if len(self.value) > MAX_LENGTH:
            raise MatcherError(f"the value for {self.name} is longer than {MAX_LENGTH:,} characters")
        if any(unicodedata.category(char) in ("Cc", "Cs") for char in self.value):
            raise MatcherError(f"the value for {self.name} has control characters; no label has any")
        if self.op in ("=~", "!~"):
            _regex(self.value)

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Say whether it holds for an alert with these labels."""
        given = labels.get(self.name, "")
        if self.op in ("=", "!="):
            return (given == self.value) is (self.op == "=")
        return (_regex(self.value).fullmatch(given) is not None) is (self.op == "=~")

    def __str__(self) -> str:
        """Return it as `parse` reads it.

        >>> str(Matcher("company", "=", "JPM"))
        'company="JPM"'
        """
        value = self.value.replace("\\", "\\\\").replace('"', '\\"')
        return f'{self.name}{self.op}"{value}"'


def matches_all(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    """Say whether all of them hold; without any it is so."""
    return all(matcher.matches(labels) for matcher in matchers)


def labels_by(series: str) -> dict[str, str]:
    """Return the labels that all alerts on a series have, whatever they are like.

    >>> labels_by("company=AAPL;topic=Earnings")["topic"]
    'Earnings'
    """
    parts = dict(part.partition("=")[::2] for part in series.split(";"))
    return {
        "series": series,
        "kind": kind(series),
        "topic": parts.get("topic", ""),
        "company": company_of(series),
        "theme": parts.get("theme", ""),
        "name": label(series),
    }


def labels_of(alert: Alert, *, state: str = "") -> dict[str, str]:
    """Return what routes, silences and the desk know an alert by. `state` is that of its life, when it is known."""
    return labels_by(alert.series) | {
        "name": alert.name,
        "severity": alert.severity,
        "state": state or alert.status,
        "group": alert.group,
        "rule": alert.rule,
    }


def parse(text: str) -> tuple[Matcher, ...]:
    r"""Return the matchers in a text: `name op value`, with commas between; braces around all may stand or not.

    A value that has a comma, a quote, a brace, an operator or blanks at its ends stands in double quotes, `\"` and `\\`
    in it for those characters.

    >>> [str(each) for each in parse('{company=~"JPM|C", topic = Credit risk}')]
    ['company=~"JPM|C"', 'topic="Credit risk"']

    Raises:
        MatcherError: it is not in this grammar, or a matcher in it cannot be used.
    """
    inner = text.strip()
    if inner.startswith("{"):
        if not inner.endswith("}"):
            raise MatcherError(f"{_short(text)}: the closing brace is missing")
        inner = inner[1:-1]
    found: list[Matcher] = []
    at = 0
    while inner[at:].strip():
        matcher, at = _one(inner, at)
        found.append(matcher)
        if len(found) > _MAX_MATCHERS:
            raise MatcherError(f'more than {_MAX_MATCHERS} matchers; use a regex, as company=~"JPM|C"')
    return tuple(found)


def parse_one(text: str) -> Matcher:
    """Return the one matcher in a text.

    Raises:
        MatcherError: it is none, or more than one.
    """
    found = parse(text)
    if len(found) != 1:
        raise MatcherError(f'{_short(text)} must be one matcher, as company="JPM"')
    return found[0]


def _one(text: str, at: int) -> tuple[Matcher, int]:
    """Read the matcher that begins at `at`; return it and where the next one may begin."""
    end = next((n for n in range(at, len(text)) if text[n] in "=!~"), len(text))
    name = text[at:end].strip()
    if name.startswith('"') and name.endswith('"') and len(name) > 1:
        name = name[1:-1]
    op: Any = next((op for op in ("=~", "!~", "!=", "=") if text.startswith(op, end)), None)
    if op is None or not name or "," in name:
        raise MatcherError(f"{_short(text[at:])} is no matcher; write label, one of {' '.join(_OPERATORS)}, value")
    begin = end + len(op)
    while begin < len(text) and text[begin].isspace():
        begin += 1
    if text.startswith('"', begin):
        value, after = _quoted(text, begin)
    else:
        after = next((n for n in range(begin, len(text)) if text[n] in _SPECIAL), len(text))
        value = text[begin:after].strip()
        if "=" in value or "!~" in value:  # `company=JPM severity=warning` means two and would match nothing
            raise MatcherError(
                f"{_short(text[at:])}: matchers are separated by commas; if {_short(value)} is one value, "
                f'put the value in double quotes, as {name[:60]}{op}"..."'
            )
    rest = text[after:].lstrip()
    if rest and not rest.startswith(","):
        raise MatcherError(f'{_short(text[at:])}: put the value in double quotes, as {name[:60]}{op}"..."')
    return Matcher(name, op, value), len(text) - len(rest) + bool(rest)


def _quoted(text: str, at: int) -> tuple[str, int]:
    """Return the text in the quotes that begin at `at`, and where it ends."""
    value, n = "", at + 1
    while n < len(text) and text[n] != '"':
        # As in Alertmanager, a backslash before any other character is itself: "\d" needs no second one.
        if text[n] == "\\" and text[n + 1 : n + 2] in ("\\", '"'):
            n += 1
        value += text[n]
        n += 1
    if n >= len(text):
        raise MatcherError(f"{_short(text[at:])}: the closing quote is missing")
    return value, n + 1


@lru_cache(maxsize=4_096)
def _regex(pattern: str) -> Any:
    options = re2.Options()
    options.max_mem, options.log_errors = _MAX_REGEX_BYTES, False
    try:
        return re2.compile(pattern, options)
    except re2.error as exc:
        said = exc.args[0].decode("utf-8", "replace") if exc.args and isinstance(exc.args[0], bytes) else str(exc)
        raise MatcherError(f"{_short(pattern)} is no regular expression of RE2: {said[:200]}") from exc


def _short(text: str) -> str:
    return repr(text.strip()[:60])
