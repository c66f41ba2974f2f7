"""`newsquake doctor`: what is reachable, what is wrong, and how to mend it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from deploy import settings as settings_module
from deploy.commands.up import configured_feeds
from deploy.local import checks
from deploy.local.checks import Line, guarded
from deploy.local.feeds import check_feeds
from deploy.local.output import escape
from deploy.local.state import holder
from deploy.local.trouble import check_trouble
from deploy.settings import Settings, SettingsError
from ingest.fetch import shown

_STYLES = {"ok": "green", "off": "dim", "warning": "yellow", "wrong": "bold red"}
_FEEDS_TIMEOUT_S = 10.0


@click.command()
@click.option("--feeds", is_flag=True, help="Also ask each feed (10 s at most).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(feeds: bool, as_json: bool) -> None:
    """Say what is reachable, what is wrong and how to mend it.

    Exit code 1 when something is wrong. What merely does not run, and is not said to, is `off`.
    """
    try:
        settings = settings_module.load()
        file = os.environ.get(settings_module.FILE_VARIABLE, settings_module.DEFAULT_FILE)
        there = file if Path(file).is_file() else f"no {file} here: the defaults, and NEWSQUAKE_* variables"
        lines = [Line("settings", "ok", there)]
        lines += _all(settings, feeds)
    except SettingsError as exc:
        lines = [Line("settings", "wrong", str(exc), "see docs/settings.md"), *guarded("python", checks.check_python)]
    wrong = any(line.state == "wrong" for line in lines)
    if as_json:
        click.echo(json.dumps({"ok": not wrong, "checks": [asdict(line) for line in lines]}, indent=2))
    else:
        _print(lines)
    sys.exit(1 if wrong else 0)


def _all(settings: Settings, feeds: bool) -> list[Line]:
    lines = guarded("python", checks.check_python)
    lines += guarded("machine", lambda: checks.check_machine(settings.local.state_dir))
    lines += guarded("device", checks.check_device)
    lines += guarded("model", lambda: checks.check_model(settings))
    lines += guarded("local servers", lambda: checks.check_local_servers(settings))

    state_dir = settings.local.state_dir
    up, demo = holder(state_dir), holder(state_dir / "demo")
    runs = up or demo
    lines.append(Line("newsquake up", "ok" if runs else "off", runs or f"does not run in {state_dir}"))
    named = settings.kafka.bootstrap_servers if not demo else None
    bootstrap = named or f"127.0.0.1:{settings.local.kafka_port}"
    url = settings.redis.url.get_secret_value() if settings.redis.url and not demo else None
    if named or runs:
        lines += guarded("kafka", lambda: checks.check_kafka(settings, bootstrap))
    if url or runs:
        local_url = f"redis://127.0.0.1:{settings.local.redis_port}/0"
        lines += guarded("redis", lambda: checks.check_redis(url or local_url))
    lines += guarded("processes", lambda: checks.check_processes(settings, expected=bool(named or runs)))
    lines += guarded("trouble", lambda: check_trouble(settings))
    if feeds:
        lines += guarded("feeds", lambda: _feeds(settings))
    return lines


def _feeds(settings: Settings) -> list[Line]:
    user_agent = settings.ingest.user_agent
    found = asyncio.run(check_feeds(configured_feeds(settings), user_agent=user_agent, timeout_s=_FEEDS_TIMEOUT_S))
    mend = "a feed that fails is tried again by itself; take it off the list when it is gone for good"
    lines = [
        Line(f"feed {check.name}", "ok", shown(check.url))
        if check.problem is None
        else Line(f"feed {check.name}", "warning", f"{shown(check.url)}: {check.problem}", mend)
        for check in sorted(found, key=lambda check: check.name)
    ]
    if lines and all(line.state == "warning" for line in lines):
        lines.append(Line("feeds", "wrong", "none can be reached", "look at network and proxy (HTTPS_PROXY)"))
    return lines


def _print(lines: list[Line]) -> None:
    table = Table("check", "state", title="newsquake doctor", title_justify="left")
    table.add_column("what was found", overflow="fold")
    for line in lines:
        style = _STYLES[line.state]
        found = escape(line.found.replace("\n", " · "))
        mend = f"\n→ {escape(line.mend)}" if line.mend and line.state != "ok" else ""
        table.add_row(_plain(line.name), f"[{style}]{line.state}[/]", _plain(found + mend))
    Console().print(table)


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
