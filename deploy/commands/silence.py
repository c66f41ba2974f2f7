"""`newsquake silence`: keep alerts from being told, for a time."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta

import click

from deploy.commands._alerts import AS, JSON, acting, actor_of, json_of, note_of, time_of
from deploy.commands._options import fail

_SPAN = re.compile(r"(\d+)([mhdw])")
_ID = 12
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class _When(click.ParamType):
    """A time, or a span from now: `2026-03-10T14:31`, `90m`, `1d12h`."""

    name = "when"

    def convert(
        self, value: str | datetime | timedelta, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime | timedelta:
        if not isinstance(value, str):
            return value
        parts = _SPAN.findall(value)
        if parts and "".join(map("".join, parts)) == value:
            try:
                return sum((timedelta(**{_UNITS[unit]: int(number)}) for number, unit in parts), timedelta())
            except OverflowError:
                self.fail(f"{value!r} is too long", param, ctx)
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is neither a span, as 90m, 8h or 2d, nor a time, as 2026-03-10T14:31", param, ctx)
        return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


@click.group()
def silence() -> None:
    """Keep alerts from being told, for a time."""


@silence.command()
@click.argument("matchers", nargs=-1, required=True)
@click.option(
    "--for",
    "--until",
    "until",
    type=_When(),
    default="2h",
    show_default=True,
    help="How long: 90m, 8h, 2d, or until a time.",
)
@click.option(
    "--from", "since", type=_When(), default=timedelta(), help="When it begins: in 30m, 8h, or at a time. Unset: now."
)
@click.option("--reason", required=True, help="Why, for those who read it later.")
@AS
@JSON
def add(
    matchers: tuple[str, ...],
    until: datetime | timedelta,
    since: datetime | timedelta,
    reason: str,
    actor: str | None,
    as_json: bool,
) -> None:
    """Silence the alerts that all MATCHERS match, as company=JPM 'topic=~"Credit.*"' severity=warning.

    Labels: series, kind, topic, company, theme, name, severity, group, rule. Operators: = != =~ !~ (RE2, on the whole
    value). Times without a zone are UTC. Who was kept quiet is told at the end, if it still fires.
    """
    from alerts.actions import Actions
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
            starts_at = now + since if isinstance(since, timedelta) else since
            ends_at = starts_at + until if isinstance(until, timedelta) else until
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
    click.echo(f"silence {made.id} until {time_of(ends_at)}; {len(steps)} more open alerts are silenced by now")


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
        times = time_of(each.starts_at), time_of(each.ends_at)
        table.add_row(each.id[:_ID], state, plain(matchers), *times, plain(each.author), plain(each.reason))
    Console(markup=False, highlight=False).print(table)


@silence.command()
@click.argument("silence_id", metavar="ID")
@AS
def expire(silence_id: str, actor: str | None) -> None:
    """End a silence now; alerts that still fire are told. ID may be the beginning of its id, if no other begins so."""
    from alerts.actions import Actions
    from alerts.silences import Silences

    who = actor_of(actor)
    with acting() as redis:
        actions = Actions(redis)
        known = {each.id for each in Silences(redis).all()}
        found = [id_ for id_ in known if silence_id and id_.startswith(silence_id)]
        if silence_id in known:
            found = [silence_id]
        if len(found) != 1:
            fail(f"{len(found)} silences' ids begin with {silence_id!r}; `newsquake silence list --all` shows them")
        steps = actions.expire_silence(found[0], who, note_of("expire_silence", who=who, target=found[0]))
    click.echo(f"ended; {len(steps)} open alerts are no longer silenced")
