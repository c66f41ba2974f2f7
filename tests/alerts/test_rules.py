"""Rules: which holds for a series at a time, and what is said of a file that is wrong."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.receivers import WebhookReceiver
from alerts.rules import Limits, Rules
from alerts.rules_file import RulesError, parse
from alerts.settings import AlertsSettings, SurgeSettings, ThemesSettings

SETTINGS = AlertsSettings(
    surge=SurgeSettings(threshold_z=3.5, minimum_count=5),
    receivers=tuple(
        WebhookReceiver(name=name, url=f"https://{name}.example/", secrets=("whsec_" + "A" * 32,))
        for name in ("risk", "desk")
    ),
)
FILE = Path("rules.yaml")
NOON = 29_000_000


def read(text: str, **known: Any) -> Rules:
    return Rules.parsed(SETTINGS, FILE, text.encode(), **known)


def problems(text: str | bytes, **known: Any) -> list[tuple[int, int, str]]:
    with pytest.raises(RulesError) as caught:
        Rules.parsed(SETTINGS, FILE, text.encode() if isinstance(text, str) else text, **known)
    return [(each.line, each.column, each.text) for each in caught.value.problems]


def minute(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() // 60)


def test_without_rules_the_settings_hold() -> None:
    for rules in (Rules(SETTINGS), read(""), read("# nothing\n"), read("rules: []")):
        assert rules.limits("company=SIVB", NOON) == Limits(
            threshold_z=3.5,
            minimum_count=5,
            minimum_publishers=2,
            windows_min=Rules(SETTINGS).limits("market", NOON).windows_min,
            critical_z=6,
            muted=False,
            receivers=None,
        )
    assert rules.limits("theme=bank run", NOON).minimum_count == ThemesSettings().minimum_count


LAYERS = """
groups: {banks: [SIVB, ON]}
defaults: {minimum_count: 7, receivers: desk}
rules:
  - {name: open end, match: {topic: Earn*}, continue: true, threshold_z: 5}
  - {name: banks, match: {group: banks}, threshold_z: 3, minimum_count: 9, receivers: [risk, desk]}
  - {name: rest, match: {kind: [company, topic]}, minimum_count: 6, receivers: []}
"""


@pytest.mark.parametrize(
    ("series", "names", "threshold", "count", "receivers"),
    [
        ("market", (), 3.5, 7, ("desk",)),
        ("topic=Earnings", ("open end", "rest"), 5, 6, ()),
        ("company=on", ("banks",), 3, 9, ("risk", "desk")),
        ("company=SIVB;topic=Earnings", ("open end", "banks"), 5, 9, ("risk", "desk")),
        ("company=AAPL", ("rest",), 3.5, 6, ()),
        ("company=AAPL;topic=Macro", (), 3.5, 7, ("desk",)),
    ],
)
def test_the_first_match_holds_and_what_it_leaves_open_comes_from_below(
    series: str, names: tuple[str, ...], threshold: float, count: int, receivers: tuple[str, ...]
) -> None:
    limits = read(LAYERS).limits(series, NOON)
    assert (limits.rules, limits.threshold_z, limits.minimum_count) == (names, threshold, count)
    assert limits.receivers == receivers


def test_each_limit_says_where_it_is_from() -> None:
    sources = read(LAYERS).sources("company=SIVB;topic=Earnings", NOON)
    assert sources["threshold_z"] == "open end"
    assert sources["minimum_count"] == sources["receivers"] == "banks"
    assert sources["windows"] == "settings"
    assert read(LAYERS).sources("market", NOON)["minimum_count"] == "defaults"


@pytest.mark.parametrize(
    ("pattern", "phrase", "matches"),
    [
        ("bank run", "Silicon Valley bank run", True),
        ("bank run", "Bank Run fears", True),
        ("bank run", "banks run", False),
        ("bank run", "run on a bank", False),
        ("bank*", "Banks fail", True),
        ("bank*", "the bank", False),
        ("S&P (500)", "the s&p (500) falls", True),
    ],
)
def test_themes_match_by_words_or_as_a_whole(pattern: str, phrase: str, matches: bool) -> None:
    rules = read(f"rules: [{{name: it, match: {{theme: '{pattern}'}}, mute: true}}]")
    assert rules.limits(f"theme={phrase}", NOON).muted is matches
    assert not rules.limits("market", NOON).muted


@pytest.mark.parametrize(
    ("word", "z", "of_theme"),
    [("lowest", 5.5, 6.11), ("low", 4.5, 5.11), ("normal", 3.5, 0), ("high", 3.0, 0), ("highest", 2.5, 0)],
)
def test_sensitivity_is_a_threshold_in_words(word: str, z: float, of_theme: float) -> None:
    rules = read(f"defaults: {{sensitivity: {word}}}")
    assert rules.limits("market", NOON).threshold_z == z
    assert rules.limits("theme=bank run", NOON).threshold_z == pytest.approx(of_theme, abs=0.01)


def test_critical_from_is_a_number_or_a_word_and_windows_are_durations() -> None:
    rules = read(
        "rules: [{name: a, match: {topic: A}, critical_from: always}, {name: b, match: {topic: B}, "
        "critical_from: never, windows: [1h, 5m]}, {name: c, critical_from: 4.5, windows: 240}]"
    )
    found = [rules.limits(f"topic={name}", NOON) for name in "ABC"]
    assert [limits.critical_z for limits in found] == [0, math.inf, 4.5]
    assert [limits.windows_min for limits in found[1:]] == [(5, 60), (240,)]


WORK = """
time_intervals:
  - name: work
    time_intervals:
      - weekdays: [monday:friday]
        times: [{start_time: "08:00", end_time: "18:00"}]
        location: Europe/London
      - {days_of_month: ["-1"], months: [december:january], years: 2026}
rules:
  - {name: day, match: {during: work}, threshold_z: 3}
  - {name: night, match: {outside: work}, threshold_z: 6, mute: true}
"""


@pytest.mark.parametrize(
    ("at", "zone", "by"),
    [
        ("2026-07-01 08:00", "Europe/London", "day"),
        ("2026-07-01 07:00", "UTC", "day"),  # summer time
        ("2026-07-01 17:59", "Europe/London", "day"),
        ("2026-07-01 18:00", "Europe/London", "night"),
        ("2026-01-07 07:30", "UTC", "night"),  # winter
        ("2026-07-04 12:00", "Europe/London", "night"),  # a Saturday
        ("2026-01-31 23:00", "UTC", "day"),
        ("2026-12-31 00:00", "UTC", "day"),
        ("2026-02-28 12:00", "UTC", "night"),
        ("2027-01-31 12:00", "UTC", "night"),
    ],
)
def test_a_rule_holds_at_its_times(at: str, zone: str, by: str) -> None:
    assert read(WORK).limits("market", minute(at, zone)).rules == (by,)


WRONG = """\
groups:
  banks: [SIVB]
  empty:
time_intervals:
  - name: night
    time_intervals:
      - times: [{start_time: "22:00", end_time: "02:00"}]
        location: America/Newyork
        weekdays: [mnday]
rules:
  - name: banks
    match: {group: banks}
    treshold_z: 3
    windows: [5m, 7h]
  - mute: perhaps
    match: {kind: topics}
    minimum_count: 1.5
    threshold_z: 1
"""


def test_all_mistakes_are_told_with_their_places() -> None:
    found = {(line, column): text for line, column, text in problems(WRONG)}
    assert found.keys() == {
        (3, 3), (7, 17), (8, 19), (9, 19), (13, 5), (14, 19), (15, 5), (15, 11), (16, 19), (17, 20), (18, 18),
    }  # fmt: skip
    assert "did you mean threshold_z" in found[13, 5]
    assert "did you mean America/New_York" in found[8, 19]
    assert "did you mean monday" in found[9, 19]
    assert "5m, 15m, 30m, 1h" in found[14, 19]
    assert "name: is missing" in found[15, 5]


def test_the_message_names_file_line_and_column() -> None:
    with pytest.raises(RulesError, match=r"^rules\.yaml:2:12: .*'x'$"):
        read("defaults:\n  mute:    x\n")


NAMES = """\
groups: {banks: [SIVB]}
rules:
  - name: one
    match: {group: bank, topic: Earnigs}
    receivers: [rsk]
  - name: one
    match: {during: nights}
  - name: all
  - name: never
"""


def test_names_must_be_of_something_and_rules_reachable() -> None:
    found: dict[int, list[str]] = {}
    for line, _, text in problems(NAMES, topics=["Earnings", "Macro"]):
        found.setdefault(line, []).append(text)
    assert "did you mean banks?" in found[4][0]
    assert "did you mean Earnings?" in found[4][1]
    assert "did you mean risk?" in found[5][0]
    assert "line 3" in found[6][0]
    assert "no time interval" in found[7][0]
    assert "never reached" in found[9][0]


LAUGHS = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (LAUGHS, 1, "aliases"),
        ("rules: !!python/object/apply:os.system ['true']", 1, "tags"),
        ("[" * 100_000, 1, "nested"),
        ("- " * 100_000, 1, "nested"),
        ("{" * 100_000, 1, "a key must be a word"),
        ("\n".join(" " * n + "a:" for n in range(1_000)), 20, "nested"),
        ("rules:\n" + "  - a\n" * 150_000, 1, "more than 100,000 values"),
        (b"x" * 1_000_001, 1, "larger than"),
        ("defaults:\n  mute: true\n  mute: false", 3, "stands twice"),
        ("rules: []\n---\nrules: []", 2, "second document"),
        ("rules: [", 1, "not YAML"),
        ("rules:\n\t- a", 2, "not YAML"),
        ("a: 1\nb: \x00", 2, "not YAML"),
        (b"a: 1\nb: \xff", 2, "not UTF-8"),
        ("{a: b}: c", 1, "a key must be a word"),
        ("just words", 1, "must be a map"),
        ("- a list", 1, "must be a map"),
        ("rules: [{name: x, threshold_z: .nan}]", 1, "must be a number"),
        ("rules: [{name: x, threshold_z: 1e999}]", 1, "must be"),
        ("rules: [{name: x, minimum_count: " + "9" * 5_000 + "}]", 1, "minimum_count"),
        ("rules: [" + ", ".join(f"{{name: x{n}}}" for n in range(1_001)) + "]", 1, "1000"),
    ],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_hostile_files_are_refused_at_once(text: str | bytes, line: int, says: str) -> None:
    first = problems(text)[0]
    assert says in first[2], first
    assert line == 1 or first[0] == line


def test_messages_stay_short_and_printable() -> None:
    text = 'rules: [{name: x, "\\e[31m' + "z" * 10_000 + '": 1, kind: "' + "\\u202e" * 500 + '"}]'
    assert all(len(said) < 400 and said.isprintable() for _, _, said in problems(text))


WORDS = st.sampled_from(
    [
        "rules",
        "groups",
        "defaults",
        "time_intervals",
        "name",
        "match",
        "theme",
        "during",
        "times",
        "weekdays",
        "mute",
        "windows",
        "threshold_z",
        "critical_from",
        "5m",
        "null",
        "true",
        "0",
        "-1:5",
        "friday:monday",
        "[[a]",
        "*",
        "~",
    ]
)
TREES = st.recursive(
    WORDS | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=25,
)


def flow(tree: Any) -> bytes:
    """The tree as YAML in flow style."""
    if isinstance(tree, dict):
        return b"{" + b", ".join(key.encode() + b": " + flow(value) for key, value in tree.items()) + b"}"
    return b"[" + b", ".join(map(flow, tree)) + b"]" if isinstance(tree, list) else tree.encode(errors="replace")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode) | TREES.map(flow))
def test_any_bytes_are_rules_or_a_rules_error(raw: bytes) -> None:
    try:
        rules = Rules.parsed(SETTINGS, FILE, raw)
    except RulesError as exc:
        assert str(exc).startswith("rules.yaml:")
        lines = raw.count(b"\n") + raw.count(b"\r") + raw.count(b"\xc2\x85") + raw.count(b"\xe2\x80") + 1
        assert all(1 <= each.line <= lines + 1 and each.column >= 1 for each in exc.problems)
    else:
        for series in ("market", "company=A;topic=B", "theme=a b"):
            assert rules.limits(series, NOON).minimum_count >= 1


def test_the_example_is_right_and_says_something() -> None:
    file = Path(__file__).parents[2] / "alerts" / "rules.yaml"
    found = parse(file.read_bytes(), file, receivers=[])
    assert len(found.rules) >= 4
    rules = Rules.load(SETTINGS, file)
    saturday = minute("2026-11-28 12:00")
    assert rules.limits("company=JPM", saturday).threshold_z < rules.limits("market", NOON).threshold_z
    assert rules.limits("market", saturday).threshold_z > rules.limits("market", NOON).threshold_z
