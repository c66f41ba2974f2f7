"""Matchers mean what Alertmanager's mean, survive being printed, and cannot hang."""

from __future__ import annotations

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.alert import Alert
from alerts.matchers import LABELS, Matcher, MatcherError, labels_of, matches_all, parse, parse_one

VALUES = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=40)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ('company="SIVB"', True),
        ("{company=SIVB,}", True),
        ('company="sivb"', False),
        ('company=~"(?i)sivb|jpm"', True),
        ('company=~"SIV"', False),  # the whole value
        ('company!~"SIV", severity=critical', True),
        ('company="SIVB", severity!="critical"', False),
        ('topic=""', True),  # a label that the alert lacks is empty
        ('topic=~".+"', False),
        ('series="company=SIVB"', True),
        ("company=SIVB, name!=Yahoo!", True),
        ('state="firing", kind = "company"', True),
        ("", True),
        ("{}", True),
    ],
)
def test_what_matches(text: str, holds: bool, alert: Alert) -> None:
    assert matches_all(parse(text), labels_of(alert)) is holds


def test_labels_are_those_of_the_series_and_of_the_life(alert: Alert) -> None:
    part = msgspec.structs.replace(alert, series="company=JPM;topic=Credit risk", rule="banks")
    labels = labels_of(part, state="acknowledged")
    assert tuple(labels) == LABELS
    assert (labels["company"], labels["topic"], labels["kind"]) == ("JPM", "Credit risk", "company_topic")
    assert (labels["state"], labels["rule"], labels["theme"]) == ("acknowledged", "banks", "")
    theme = msgspec.structs.replace(alert, series="theme=bank run")
    assert labels_of(theme)["theme"] == "bank run"


@given(st.sampled_from(LABELS), st.sampled_from(["=", "!="]), VALUES)
def test_what_is_printed_is_read_again(name: str, op: str, value: str) -> None:
    made = msgspec.convert({"name": name, "op": op, "value": value}, Matcher)
    assert parse(f"{{{made},{made}}}") == (made, made)
    assert msgspec.json.decode(msgspec.json.encode(made), type=Matcher) == made


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("compny=JPM", "did you mean company?"),
        ("colour=JPM", "there are: company, group"),
        ("company", "is no matcher"),
        ("company==~JPM, x", "double quotes"),
        ("company=JPM severity=warning", "matchers are separated by commas; if 'JPM severity=warning' is one value"),
        ("company=JPM severity!~warning", "separated by commas"),
        ('company="JPM', "closing quote"),
        ("{company=JPM", "closing brace"),
        ('company=J"P"', "double quotes"),
        ('company="JPM" severity=critical', "double quotes"),
        ("company=~[", "no regular expression of RE2: missing ]"),
        ('company=~"(?=a)"', "no regular expression of RE2"),
        ('company=~"((a{100}){100}){100}"', "no regular expression of RE2"),
        ("company=" + "x" * 1_001, "longer than"),
        ('company="a\x00"', "control characters"),
        ('company="\ud800"', "control characters"),
        ("company=a," * 51, "more than 50"),
    ],
)
def test_what_is_wrong_is_said(text: str, says: str) -> None:
    with pytest.raises(MatcherError) as caught:
        parse(text)
    assert says in str(caught.value)


def test_one_is_one() -> None:
    assert parse_one("company=JPM") == Matcher("company", "=", "JPM")
    with pytest.raises(MatcherError, match="must be one"):
        parse_one("company=JPM,topic=X")


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = parse(text)
    except MatcherError:
        return
    assert parse(",".join(map(str, found))) == found


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)*b", "(.*)*(.*)*x", "(a*)*b"])
def test_no_pattern_hangs(pattern: str) -> None:
    begun = time.process_time()
    for _ in range(100):
        assert not Matcher("name", "=~", pattern).matches({"name": "a" * 50_000 + "!"})
    assert time.process_time() - begun < 20, "a backtracking engine needs years for one"


def test_a_bad_matcher_in_json_is_an_error_of_reading() -> None:
    with pytest.raises(msgspec.ValidationError, match="no label"):
        msgspec.json.decode(b'{"name":"colour","op":"=","value":"x"}', type=Matcher)
