"""`newsquake silence`: keep alerts from being told, for a time."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import click

from deploy.commands._alerts import AS, JSON, acting, actor_of, json_of, note_of, stamp
from deploy.commands._options import fail

if TYPE_CHECKING:
    from redis import Redis

    from alerts.ends import End

_ID = 12


class _When(click.ParamType):
    """A time, or a span from a beginning: `2026-03-10T14:31`, `17:30`, `90m`, `1d12h`."""

    name = "when"

    def convert(
        self, value: str | datetime | time | timedelta, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime | time | timedelta:
        from alerts.ends import EndError, length_of, time_of

        if not isinstance(value, str):
            return value
        try:
            return time_of(value) if {*value} & {*":-"} else length_of(value)
        except EndError as exc:
            self.fail(str(exc), param, ctx)


def _until(required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    usual = {"required": True} if required else {"default": "2h", "show_default": True}
    text = "How long: 90m, 8h, 2d, or until a time: 17:30, 2026-12-02T09:00, 2026-12-02T09:00+01:00."
    return click.option("--for", "--until", "until", type=_When(), help=text, **usual)


_ZONE = click.option("--zone", default="UTC", show_default=True, help="Whose clocks times without an offset are by.")


def _end(when: datetime | time | timedelta, zone: str, now: datetime, hint: str) -> End:
    from alerts.ends import EndError, instant

    if isinstance(when, timedelta):
        return when
    try:
        return instant(when, zone, now)
    except EndError as exc:
        raise click.BadParameter(str(exc), param_hint=hint) from exc


@click.group()
def silence() -> None:
    """Keep alerts from being told, for a time."""


@silence.command()
@click.argument("matchers", nargs=-1, required=True)
@_until(required=False)
@click.option(
    "--from", "since", type=_When(), default=timedelta(), help="When it begins: in 30m, 8h, or at a time. Unset: now."
)
@_ZONE
@click.option("--reason", required=True, help="Why, for those who read it later.")
@AS
@JSON
def add(
    matchers: tuple[str, ...],
    until: datetime | time | timedelta,
    since: datetime | time | timedelta,
    zone: str,
    reason: str,
    actor: str | None,
    as_json: bool,
) -> None:
    """Silence the alerts that all MATCHERS match, as company=JPM 'topic=~"Credit.*"' severity=warning.

    Labels: series, kind, topic, company, theme, name, severity, group, rule. Operators: = != =~ !~ (RE2, on the whole
    value). Who was kept quiet is told at the end, if it still fires.
    """
    from alerts.actions import Actions
    from alerts.ends import after
    from alerts.matchers import MatcherError, parse_one
    from alerts.silences import Silence

    try:
        parsed = tuple(parse_one(each) for each in matchers)
    except MatcherError as exc:
        raise click.BadParameter(str(exc), param_hint="MATCHERS") from exc
    who = actor_of(actor)
    with acting() as redis:
        actions = Actions(redis)
        now = actions.now()
        try:
            starts_at = after(now, _end(since, zone, now, "--from"))
            ends_at = after(starts_at, _end(until, zone, now, "--until"))
        except OverflowError as exc:
            raise click.BadParameter("is too long", param_hint="--for") from exc
        made = Silence(
            id=uuid.uuid4().hex[:12],
            matchers=parsed,
            starts_at=starts_at,
            ends_at=ends_at,
            author=who,
            reason=reason,
            created_at=now,
        )
        detail = f"{', '.join(map(str, parsed))}: {reason}"
        steps = actions.silence(made, who, note_of("silence", who=who, target=made.id, detail=detail))
    if as_json:
        click.echo(json_of({"silence": made, "transitions": steps}))
        return
    click.echo(f"silence {made.id} until {stamp(ends_at)}; {len(steps)} more open alerts are silenced by now")


@silence.command("list")
@click.option("--all", "everything", is_flag=True, help="Those that ended in the last 90 days, too.")
@JSON
def list_(everything: bool, as_json: bool) -> None:
    """Show the silences that hold or lie ahead, those that end last first."""
    from rich.console import Console
    from rich.table import Column, Table

    from alerts.actions import Actions
    from alerts.listen import plain
    from alerts.silences import Silences

    with acting() as redis:
        now = Actions(redis).now()
        found = [each for each in Silences(redis).all() if everything or each.ends_at > now]
    if as_json:
        click.echo(json_of(found))
        return
    if not found:
        click.echo("there is no silence")
        return
    table = Table(Column("id", min_width=_ID), "state", "matchers", "from", "until", "by", "why")
    for each in found:
        state = "holds" if each.holds(now) else "ended" if each.ends_at <= now else "lies ahead"
        matchers = ", ".join(map(str, each.matchers))
        times = stamp(each.starts_at), stamp(each.ends_at)
        table.add_row(each.id[:_ID], state, plain(matchers), *times, plain(each.author), plain(each.reason))
    Console(markup=False, highlight=False).print(table)


@silence.command()
@click.argument("silence_id", metavar="ID")
@_until(required=True)
@_ZONE
@AS
@JSON
def change(silence_id: str, until: datetime | time | timedelta, zone: str, actor: str | None, as_json: bool) -> None:
    """Give a silence that holds or lies ahead another end. A length counts from now, or from where it begins.

    ID may be the beginning of its id, if no other begins so.
    """
    from alerts.actions import Actions

    who = actor_of(actor)
    with acting() as redis:
        actions = Actions(redis)
        end, id_ = _end(until, zone, actions.now(), "--until"), _id_of(redis, silence_id)
        changed = actions.change_silence(id_, end, who, note_of("change_silence", who=who, target=id_))
    click.echo(json_of(changed) if as_json else f"silence {changed.id} until {stamp(changed.ends_at)}")


@silence.command()
@click.argument("silence_id", metavar="ID")
@AS
def expire(silence_id: str, actor: str | None) -> None:
    """End a silence now; alerts that still fire are told. ID may be the beginning of its id, if no other begins so."""
    from alerts.actions import Actions

    who = actor_of(actor)
    with acting() as redis:
        id_ = _id_of(redis, silence_id)
        steps = Actions(redis).expire_silence(id_, who, note_of("expire_silence", who=who, target=id_))
    click.echo(f"ended; {len(steps)} open alerts are no longer silenced")


def _id_of(redis: Redis, start: str) -> str:
    """Return the one silence's id that begins so; none or several end the process with a message."""
    from alerts.silences import Silences

    known = {each.id for each in Silences(redis).all()}
    if start in known:
        return start
    found = [id_ for id_ in known if start and id_.startswith(start)]
    if len(found) != 1:
        fail(f"{len(found)} silences' ids begin with {start!r}; `newsquake silence list --all` shows them")
    return found[0]
