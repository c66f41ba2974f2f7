"""`newsquake receivers`: who is told of alerts, how it goes with them, and a message to try one."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime
from typing import Any

import click

from deploy import settings
from deploy.commands._options import fail
from deploy.commands._outbox import outbox_of


@click.group()
def receivers() -> None:
    """Show the receivers of alerts, and try one."""


@receivers.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """Show each receiver: its format and address, whether it takes messages, and what waits for it."""
    from rich.console import Console
    from rich.table import Table

    from alerts.channels.table import channel_of

    config = settings.load()
    rows: list[dict[str, Any]] = []
    with outbox_of(config) as outbox:
        for receiver in config.alerts.receivers:
            waiting, due_s = outbox.waiting(receiver.name)
            disabled, down = outbox.disabled(receiver.name), outbox.down(receiver.name)
            state = "disabled" if disabled is not None else "down" if down is not None else "up"
            rows.append(
                {
                    "name": receiver.name,
                    "type": receiver.type,
                    "address": channel_of(receiver).shown,
                    "state": state,
                    "since": _time(down.since_s) if down is not None else "",
                    "reason": disabled or (down.reason if down is not None else ""),
                    "waiting": waiting,
                    "next_attempt": "" if due_s is None or disabled is not None else _time(due_s),
                }
            )
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    if not rows:
        click.echo("there are no receivers: add [[alerts.receivers]] to the settings (docs/receivers.md)")
        return
    table = Table("name", "type", "address", "state", "waiting", "next attempt", "reason")
    for row in rows:
        state = f"{row['state']} since {row['since']}" if row["since"] else row["state"]
        reason = row["reason"]
        table.add_row(row["name"], row["type"], row["address"], state, str(row["waiting"]), row["next_attempt"], reason)
    Console(markup=False, highlight=False).print(table)


@receivers.command()
@click.argument("name")
def test(name: str) -> None:
    """Send the receiver NAME an alert that says it is a test, and that it is over; both at once and past the outbox.

    Exit code 0: it took both; 1: it did not.
    """
    from alerts.channels.table import channel_of
    from alerts.trial import trial

    config = settings.load()
    known = {receiver.name: receiver for receiver in config.alerts.receivers}
    if name not in known:
        fail(f"no receiver is called {name}; there are: {', '.join(known) or 'none'}")
    channel = channel_of(known[name])
    now = datetime.now(UTC)
    for told in trial(name, now, config.desk.url or ""):
        result = asyncio.run(channel.send(told, now))
        if result.outcome != "delivered":
            click.echo(f"{name} ({channel.shown}) did not take {told.event}: {result.reason}", err=True)
            sys.exit(1)
        click.echo(f"{name} ({channel.shown}) took {told.event}{f': {result.reason}' if result.reason else ''}")


@receivers.command()
def schema() -> None:
    """Print the JSON Schema of a webhook's body."""
    import msgspec

    from alerts.alert import Message
    from alerts.message import GroupMessage

    kinds, parts = msgspec.json.schema_components([Message, GroupMessage], ref_template="#/$defs/{name}")
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", "oneOf": list(kinds), "$defs": parts}
    click.echo(json.dumps(whole, indent=2))


def _time(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
