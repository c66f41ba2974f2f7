"""`newsquake alert`: see alerts, and say what becomes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from deploy.commands._alerts import AS, JSON, acting, actor_of, alert_of, json_of, note_of, stamp

if TYPE_CHECKING:
    from alerts.life import Transition

_REASON = click.option("--reason", default="", help="Why, for those who read it later.")


@click.group()
def alert() -> None:
    """See alerts; acknowledge, resolve and reopen them; write notes on them.

    ID may be the beginning of an alert's id, if no other begins so.
    """


@alert.command("list")
@click.option("--all", "everything", is_flag=True, help="Those resolved in the last 90 days, too.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Alerts, at most.")
@JSON
def list_(everything: bool, limit: int, as_json: bool) -> None:
    """Show the alerts that are not resolved, the newest first."""
    from rich.console import Console
    from rich.table import Table

    from alerts.listen import plain
    from alerts.store import AlertStore

    with acting() as redis:
        views = AlertStore(redis).views(open=not everything, limit=limit)
    if as_json:
        click.echo(json_of(views))
        return
    if not views:
        click.echo("no alert is open" if not everything else "there were no alerts")
        return
    table = Table("id", "state", "severity", "about", "fired", "what was seen")
    for view in views:
        state = view.life.state + (f" by {plain(view.life.actor)}" if view.life.state == "acknowledged" else "")
        state += ", silenced" if view.life.silence else ""
        fired = stamp(view.alert.started_at)
        table.add_row(
            view.alert.id[:12], state, view.life.severity, plain(view.alert.name), fired, plain(view.alert.summary)
        )
    Console(markup=False, highlight=False).print(table)


@alert.command()
@click.argument("alert_id", metavar="ID")
@JSON
def show(alert_id: str, as_json: bool) -> None:
    """Show an alert with its evidence and all that it went through."""
    from rich.console import Console
    from rich.table import Table

    from alerts.alert import Event, Message
    from alerts.listen import plain, render

    with acting() as redis:
        view = alert_of(redis, alert_id)
    if as_json:
        click.echo(json_of(view))
        return
    console = Console(markup=False, highlight=False)
    resolved = view.life.state == "resolved"
    event: Event = "alert.resolved" if resolved else "alert.firing"
    console.print(render(Message(type=event, timestamp=view.alert.updated_at, data=view.alert)))
    table = Table("when", "what", "state", "by", "why")
    for step in view.transitions:
        state = step.state + (", silenced" if step.silenced else "")
        table.add_row(stamp(step.at), step.event, state, plain(step.actor), plain(step.reason))
    console.print(table)
    if view.left_out:
        console.print(f"{view.left_out:,} more between these are not kept: the beginnings and ends of silences first")
    console.print(f"id {view.alert.id}")


@alert.command()
@click.argument("alert_id", metavar="ID")
@_REASON
@AS
def ack(alert_id: str, reason: str, actor: str | None) -> None:
    """Say that you are on it: it is told no more, unless it grows by a severity."""
    _act(alert_id, "acknowledge", reason, actor)


@alert.command()
@click.argument("alert_id", metavar="ID")
@_REASON
@AS
def unack(alert_id: str, reason: str, actor: str | None) -> None:
    """Take an acknowledgement back: it fires as before."""
    _act(alert_id, "unacknowledge", reason, actor)


@alert.command()
@click.argument("alert_id", metavar="ID")
@_REASON
@AS
def resolve(alert_id: str, reason: str, actor: str | None) -> None:
    """Say that it is over, whatever the detector sees; it comes back only if it grows by a severity or is reopened."""
    _act(alert_id, "resolve", reason, actor)


@alert.command()
@click.argument("alert_id", metavar="ID")
@_REASON
@AS
def reopen(alert_id: str, reason: str, actor: str | None) -> None:
    """Take back that somebody resolved it: it fires again. While its surge goes on, and for an hour after."""
    _act(alert_id, "reopen", reason, actor)


@alert.command()
@click.argument("alert_id", metavar="ID")
@click.argument("text")
@AS
def note(alert_id: str, text: str, actor: str | None) -> None:
    """Write TEXT on an alert, for all who look at it. Nobody is told."""
    from alerts.notes import cleaned

    _act(alert_id, "annotate", cleaned(text), actor, "note")


def _act(alert_id: str, what: str, reason: str, actor: str | None, called: str = "") -> None:
    from alerts.actions import Actions

    who = actor_of(actor)
    with acting() as redis:
        found = alert_of(redis, alert_id).alert.id
        entry = note_of(called or what, who=who, target=found, detail=reason)
        step: Transition = getattr(Actions(redis), what)(found, who, reason, note=entry)
    click.echo(f"{step.name}: {step.event} by {step.actor}")
