"""`newsquake deliveries`: what waits for receivers, what was given up, and how to send it again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from deploy import settings
from deploy.commands._alerts import alert_of, note_of
from deploy.commands._options import fail
from deploy.commands._outbox import outbox_of, redis_of

if TYPE_CHECKING:
    from redis import Redis

    from alerts.delivery import Delivery
    from alerts.history import Told
    from alerts.replay import Replayed


@click.group()
def deliveries() -> None:
    """Show deliveries, and send again what was given up."""


@deliveries.command("list")
@click.option("--receiver", help="Those of this receiver alone.")
@click.option("--state", type=click.Choice(["waiting", "dead", "all"]), default="all", show_default=True)
@click.option("--alert", help="What was tried of this alert's deliveries in the last 90 days, the delivered too.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Rows of each state.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(receiver: str | None, state: str, alert: str | None, limit: int, as_json: bool) -> None:
    """Show what waits, due first, and what was given up, the latest first."""
    from rich.console import Console
    from rich.table import Table

    rows = list(_rows(receiver, state, alert, limit))
    if receiver and not rows:
        _check(receiver)
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    if not rows:
        click.echo("nothing waits, and nothing was given up" if alert is None else "nothing was tried of that alert")
        return
    table = Table("id", "receiver", "event", "state", "made or tried", "next attempt", "attempts", "reason")
    for row in rows:
        table.add_row(*(str(row[key]) for key in _COLUMNS))
    Console(markup=False, highlight=False).print(table)


_COLUMNS = ("id", "receiver", "event", "state", "at", "next_attempt", "attempts", "reason")


def _rows(receiver: str | None, state: str, alert: str | None, limit: int) -> Iterator[dict[str, Any]]:
    from alerts.outbox import Outbox

    config = settings.load()
    names = [receiver] if receiver else [each.name for each in config.alerts.receivers]
    with redis_of(config) as redis:
        outbox = Outbox(redis)
        if alert is not None:
            found = outbox.history(alert)
            if not found.lines:
                found = outbox.history(alert_of(redis, alert).alert.id)
            for line in found.lines:
                if receiver in (None, line.receiver):
                    yield _row(line, line.status, line.at_s)
            if found.more:
                click.echo(f"{found.more:,} more repeats and digests, to all receivers, are kept as a number", err=True)
            return
        for name in names if state != "dead" else ():
            for queued in outbox.queued(name, limit):
                yield _row(queued.delivery, "waiting", queued.delivery.created_s, _time(queued.due_s))
        for one in outbox.dead(limit if receiver is None else 10_000) if state != "waiting" else ():
            if receiver in (None, one.receiver):
                yield _row(one, "dead", one.created_s)


def _check(receiver: str) -> None:
    """End with a message when the settings name receivers, and not this one."""
    names = [each.name for each in settings.load().alerts.receivers]
    if names and receiver not in names:
        fail(f"there is no receiver {receiver}; there are: {', '.join(names)}")


def _row(one: Delivery | Told, state: str, at_s: float, next_attempt: str = "") -> dict[str, Any]:
    values = (one.id, one.receiver, one.event, state, _time(at_s), next_attempt, one.attempts, one.reason)
    return dict(zip(_COLUMNS, values, strict=True))


@deliveries.command()
@click.argument("delivery_id")
def show(delivery_id: str) -> None:
    """Show a delivery that waits or was given up, with all that the receiver is to be told, as JSON."""
    with outbox_of(settings.load()) as outbox:
        found = outbox.get(delivery_id)
    if found is None:
        fail(f"no delivery {delivery_id} waits or was given up; those delivered are in `list --alert`")
    shown = {name: getattr(found, name) for name in found.__struct_fields__ if name != "body"}
    click.echo(json.dumps(shown | {"notification": json.loads(found.body)}, indent=2, ensure_ascii=False))


@deliveries.command()
@click.argument("delivery_ids", nargs=-1)
@click.option("--receiver", help="All that were given up for this receiver.")
@click.option("--all", "everything", is_flag=True, help="All that were given up.")
def replay(delivery_ids: tuple[str, ...], receiver: str | None, everything: bool) -> None:
    """Send again what was given up: by id, of one receiver, or all; with the same ids, and in the order it was made.

    What a receiver has been told something later of is left out, and what was given up after it comes along: nobody is
    told how an alert stood as if it stood so now.
    """
    if sum((bool(delivery_ids), receiver is not None, everything)) != 1:
        raise click.UsageError("name deliveries by id, or a --receiver, or --all")

    def wanted(one: Delivery) -> bool:
        return everything or one.receiver == receiver or one.id in delivery_ids

    with redis_of(settings.load()) as redis:
        done = _replay(redis, wanted, ", ".join(delivery_ids) or receiver or "all")
    if not any(done):
        fail("none of those were given up; see `newsquake deliveries list --state dead`")


def _replay(redis: Redis, wanted: Callable[[Delivery], bool], which: str) -> Replayed:
    from alerts.audit import Audit
    from alerts.outbox import Outbox
    from alerts.replay import replay

    done = replay(Outbox(redis), wanted, time.time())
    if any(done):
        Audit(redis).write(note_of("replay", target=which, detail=f"{done.due + done.along} deliveries"))
        click.echo(f"{done.due} {'delivery is' if done.due == 1 else 'deliveries are'} due again")
    if done.along:
        click.echo(f"{done.along} more, which came after them, too")
    if done.superseded:
        click.echo(
            f"{done.superseded} left out: their receivers have been told something later of the same alerts,"
            " or they are older than 90 days"
        )
    return done


@deliveries.command()
@click.argument("receiver")
@click.option("--replay", "again", is_flag=True, help="Send what was given up for it again, too.")
def enable(receiver: str, again: bool) -> None:
    """Send to a RECEIVER again that was disabled because it answered 410 Gone."""
    from alerts.audit import Audit
    from alerts.outbox import Outbox

    with redis_of(settings.load()) as redis:
        if not Outbox(redis).enable(receiver):
            _check(receiver)
            click.echo(f"{receiver} was not disabled")
        else:
            Audit(redis).write(note_of("enable", target=receiver))
            click.echo(f"{receiver} is enabled")
        if again and not any(_replay(redis, lambda one: one.receiver == receiver, receiver)):
            click.echo("nothing was given up for it")


def _time(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
