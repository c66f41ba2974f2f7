"""Routes lead where Alertmanager's would, and what is wrong in them is said with its place."""

from __future__ import annotations

import math
import re
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from alerts.alert import Alert
from alerts.matchers import labels_of
from alerts.routes import Branch, Routes
from alerts.rules import Rules
from alerts.rules_file import RulesError, parse
from alerts.settings import AlertsSettings

NAMES = ("desk", "risk", "pager", "mail")
TREE = """\
time_intervals:
  - name: office
    time_intervals:
      - {weekdays: "monday:friday", times: [{start_time: "08:00", end_time: "18:00"}], location: America/New_York}
rules:
  - name: banks
    match: {company: [JPM, C]}
    continue: true
  - name: quiet
    match: {company: XYZ}
    receivers: []
  - name: special
    match: {company: ABC}
    receivers: [pager]
route:
  receiver: desk
  group_by: [topic]
  escalate_to: [pager]
  routes:
    - matchers: [severity="critical"]
      receivers: [risk, desk]
      escalate_after: 15m
      continue: true
    - matchers: ['company=~"JPM|C"', kind="company"]
      receiver: risk
      group_by: [rule]
      group_wait: 10s
      active_time_intervals: [office]
      routes:
        - matchers: [company="C"]
          receiver: mail
          group_by: ['...']
          repeat_interval: 1h30m
    - matchers: [theme!=""]
      receivers: []
"""


def routes(text: str) -> Routes:
    found = parse(text.encode(), Path("rules.yaml"), receivers=NAMES, topics=["Earnings"])
    return Routes(NAMES, found.time_intervals, found.route, found.line)


def labels(series: str, alert: Alert, **fields: Any) -> dict[str, str]:
    return labels_of(msgspec.structs.replace(alert, series=series, **fields))


@pytest.mark.parametrize(
    ("series", "severity", "lines"),
    [
        ("market", "warning", [15]),
        ("market", "critical", [20]),
        ("company=JPM", "warning", [24]),
        ("company=JPM", "critical", [20, 24]),
        ("company=C", "critical", [20, 30]),
        ("company=C;topic=Earnings", "warning", [15]),
        ("theme=bank run", "warning", [34]),
    ],
)
def test_where_an_alert_comes_to(series: str, severity: str, lines: list[int], alert: Alert) -> None:
    found = routes(TREE).ends(labels(series, alert, severity=severity))
    assert [branch.line for branch in found] == lines


def ends(series: str, alert: Alert, **fields: Any) -> Branch:
    return routes(TREE).ends(labels(series, alert, **{"severity": "warning", **fields}))[-1]


def test_what_is_left_open_is_as_above(alert: Alert) -> None:
    root, bank, part = (ends(series, alert) for series in ("market", "company=JPM", "company=C"))
    assert (root.group_by, root.wait_s, root.interval_s, root.repeat_s) == (("topic",), 30, 300, math.inf)
    assert (bank.group_by, bank.wait_s, bank.receivers) == (("rule",), 10, ("risk",))
    assert (part.group_by, part.wait_s, part.interval_s, part.repeat_s) == (None, 10, 0, 5_400)
    assert part.active == () and bank.active == ("office",)  # times are a route's own
    assert {root.escalate_to, bank.escalate_to, part.escalate_to} == {("pager",)}


def test_each_receiver_is_told_once_by_the_first_route_that_says_so(alert: Alert) -> None:
    tree = routes(TREE)
    told = tree.told(labels("company=JPM", alert, severity="critical"))
    assert {name: way.branch.line for name, way in told.items()} == {"risk": 20, "desk": 20}
    told = tree.told(labels("company=JPM", alert, severity="critical"), escalated=True)
    assert {name: way.branch.line for name, way in told.items()} == {"risk": 20, "desk": 20, "pager": 20}
    assert tree.told(labels("theme=x", alert, severity="warning")) == {}


def test_escalation_is_awaited_where_a_route_says_so(alert: Alert) -> None:
    tree = routes(TREE)
    assert tree.escalate_after_s(labels("company=JPM", alert, severity="critical")) == 900
    assert tree.escalate_after_s(labels("company=JPM", alert, severity="warning")) is None


def test_hours_follow_the_zone(alert: Alert) -> None:
    bank, tree = ends("company=JPM", alert), routes(TREE)
    for day, hour, silent in ((24, 7, True), (24, 8, False), (24, 17, False), (24, 18, True), (28, 12, True)):
        at = datetime(2026, 11, day, hour, tzinfo=ZoneInfo("America/New_York"))
        assert bool(tree.quiet(bank, int(at.timestamp()) // 60)) is silent
    summer = datetime(2026, 7, 1, 8, tzinfo=ZoneInfo("America/New_York"))
    assert tree.quiet(bank, int(summer.timestamp()) // 60) == ""
    assert "office" in tree.quiet(bank, int(summer.timestamp()) // 60 - 1)


def settings(rules: Path | None = None) -> AlertsSettings:
    secret = "whsec_" + "A" * 32
    hooks = [{"type": "webhook", "name": name, "url": f"https://{name}.example", "secrets": [secret]} for name in NAMES]
    return AlertsSettings.model_validate({"receivers": hooks, "rules": rules})


def test_a_rule_that_names_receivers_has_the_last_word(tmp_path: Path, alert: Alert) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(TREE)
    rules = Rules.load(settings(file), file)
    for company, told in (("ABC", {"pager": 15}), ("XYZ", {}), ("JPM", {"risk": 24}), ("other", {"desk": 15})):
        about = msgspec.structs.replace(alert, series=f"company={company}", severity="warning")
        assert {name: way.branch.line for name, way in rules.told(about, labels_of(about)).items()} == told
    assert rules.rule_line("quiet") == 9


def test_without_routes_all_are_told_at_once(alert: Alert) -> None:
    told = Rules(settings()).told(alert, labels_of(alert))
    assert tuple(told) == NAMES
    assert {(b.wait_s, b.interval_s, b.repeat_s, b.group_by) for b in (way.branch for way in told.values())} == {
        (0, 0, math.inf, None)
    }


ROOT = "cannot stand in the root, which takes every alert; put it in a route below"
TIME = "must be a time as 30s, 5m, 4h, 1d or 1h30m, of at most a year"
AFTER_ALL = "route:\n  routes:\n    - receiver: desk\n    - matchers: [kind=market]"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("routes: {receiver: desk}", "1:1: routes is not known here; did you mean route?"),
        ("route: {receiver: dsk}", "1:19: no receiver is called 'dsk'; did you mean desk?"),
        ("route: {receivers: [desk, x]}", "1:27: no receiver is called 'x'; there are: desk, mail, pager, risk"),
        ("route: {receiver: desk, receivers: [desk]}", "1:8: route: receiver and receivers say the same; keep one"),
        ("route:\n  matchers: [kind=market]", f"2:3: matchers {ROOT}"),
        ("route:\n  continue: true", f"2:3: continue {ROOT}"),
        ("route: {group_by: [state]}", "1:20: group_by: 'state' changes in an alert's life"),
        ("route: {group_by: [topics]}", "1:20: group_by: no label is called 'topics'; did you mean topic?"),
        ("route: {group_by: [topic, '...']}", "1:8: route: group_by: '...' stands for every label"),
        ("route: {group_wait: soon}", f"1:21: group_wait: {TIME}, not 'soon'"),
        ("route: {group_wait: never}", f"1:21: group_wait: {TIME}, not 'never'"),
        ("route: {group_wait: 800d}", f"1:21: group_wait: {TIME}, not '800d'"),
        ("route: {repeat_interval: 5s}", "1:26: repeat_interval: must be greater than or equal to 60, not '5s'"),
        ("route: {escalate_after: 5m}", "1:25: escalates to nobody; name them in escalate_to"),
        ("route: {routes: [{matchers: [severity=critcal]}]}", "1:30: no severity is called 'critcal'; did you mean"),
        ("route: {routes: [{matchers: topic=Earnigs}]}", "1:29: no topic is called 'Earnigs'; did you mean Earnings?"),
        ("route: {routes: [{matchers: rule=banks}]}", "1:29: no rule is called 'banks'; there is none"),
        ("route: {routes: [{matchers: ['name=~[']}]}", "1:30: matchers: '[' is no regular expression of RE2"),
        ("route: {routes: [{matchers: [compny=C]}]}", "1:30: matchers: no label is called 'compny'; did you mean"),
        ("route: {routes: [{mute_time_intervals: [x]}]}", "1:41: no time interval is called 'x'; there is none"),
        (AFTER_ALL, "4:7: is never reached: the route in line 3 matches everything"),
        ("route: {routes: [{routes: [{reciever: desk}]}]}", "1:29: reciever is not known here; did you mean receiver?"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, problem: str) -> None:
    with pytest.raises(RulesError) as caught:
        routes(text)
    assert str(caught.value).startswith(f"rules.yaml:{problem}")


def test_the_example_in_the_docs_is_right_and_does_what_it_says(alert: Alert) -> None:
    text = (Path(__file__).parents[2] / "docs/rules.md").read_text("utf-8")
    [example] = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "\nroute:" in block]
    names = ("desk", "risk", "pager", "head-of-risk", "tech", "research")
    found = parse(example.encode(), Path("rules.yaml"), receivers=names)
    tree = Routes(names, found.time_intervals, found.route)

    def told(series: str, escalated: bool = False, **fields: Any) -> set[str]:
        return set(tree.told(labels(series, alert, **fields), escalated=escalated))

    lent = {"rule": "counterparties", "severity": "critical"}
    assert told("company=JPM", **lent) == {"risk", "pager", "desk"}
    assert told("company=JPM", escalated=True, **lent) == {"risk", "pager", "desk", "head-of-risk"}
    assert told("company=JPM", severity="warning") == {"desk"}
    assert told("company=AAPL;topic=Earnings", severity="warning") == {"tech"}
    assert told("theme=bank run", severity="warning") == {"research"}
    assert tree.escalate_after_s(labels("company=JPM", alert, **lent)) == 600
