"""What commands by which people act share: a client of Redis, who acts, and the audit log's entry of it."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import click
import msgspec

from deploy import settings
from deploy.commands._options import fail
from deploy.commands._outbox import redis_of

if TYPE_CHECKING:
    from redis import Redis

    from alerts.audit import Entry
    from alerts.life import AlertView

AS = click.option("--as", "actor", help="Who acts; unset: the user of this machine.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@contextmanager
def acting() -> Iterator[Redis]:
    """A client of the Redis that alerting uses; what cannot be done ends the process with a message."""
    from alerts.actions import ActionError

    with redis_of(settings.load()) as redis:
        try:
            yield redis
        except ActionError as exc:
            fail(exc)


def actor_of(given: str | None) -> str:
    """Return who acts. Ask before anything else: who cannot act must say who does."""
    from alerts.desk.auth import is_name
    from alerts.life import SYSTEM, is_system

    if given is not None:
        if not is_name(given):
            raise click.BadParameter("is 1 to 64 letters, digits, blanks or . @ + - _", param_hint="--as")
        who = given
    else:
        try:
            who = getpass.getuser()
        except (OSError, KeyError):
            fail("who acts is not known on this machine; say it by --as")
    if is_system(who):  # whom the container image runs as, too
        raise click.BadParameter(f"{SYSTEM} is the name of what nobody does by hand; say who acts", param_hint="--as")
    return who


def note_of(what: str, *, who: str = "", target: str = "", detail: str = "") -> Entry:
    """Return the audit log's entry of what `who`, or else the user of this machine, does."""
    from alerts.audit import entry

    if not who:
        try:
            who = getpass.getuser()
        except (OSError, KeyError):  # as in a container
            who = f"user {os.getuid()}"
    return entry(who, what, target=target, detail=detail, address="command line")


def alert_of(redis: Redis, start: str) -> AlertView:
    """Return the one alert whose id begins so; none or several end the process with a message."""
    from alerts.store import AlertStore

    store = AlertStore(redis)
    if (view := store.view(start)) is not None:
        return view
    found = (
        [view for view in store.views(open=False, limit=100_000) if view.alert.id.startswith(start)] if start else []
    )
    if len(found) != 1:
        fail(f"{len(found)} alerts' ids begin with {start!r}; `newsquake alert list --all` shows them")
    return found[0]


def stamp(at: datetime) -> str:
    """Return a time as tables show it."""
    return f"{at:%Y-%m-%d %H:%M} {at.tzname() or ''}".rstrip()


def json_of(value: object) -> str:
    """Return anything of ours as JSON with line breaks."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
