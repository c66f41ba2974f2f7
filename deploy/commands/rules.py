"""`newsquake rules`: is the file of rules right, what does it say of a series, and who is told of an alert."""

from __future__ import annotations

import math
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy import settings
from deploy.commands._alerts import alert_of
from deploy.commands._options import fail
from deploy.servers import redis_of

if TYPE_CHECKING:
    from alerts.alert import Alert
    from alerts.rules import Limits

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group()
def rules() -> None:
    """Check the file of rules, say what holds for a series, and who is told of an alert."""


@rules.command()
@click.argument("file", type=_FILE, required=False)
def check(file: Path | None) -> None:
    """Say what is wrong in FILE, or in the one that the setting alerts.rules names, each with its line and column.

    Names of receivers are looked up among the settings, topics among those of the model.

    Exit code 0: nothing is wrong; 1: something is; 2: there is no file to look at.
    """
    from alerts.rules import Rules
    from alerts.rules_file import RulesError

    config = settings.load()
    path = file or config.alerts.rules
    if path is None:
        raise click.UsageError("the setting alerts.rules names no file; give one, or copy that of `rules example`")
    try:
        found = Rules.load(config.alerts, path, topics=_topics(config))
    except RulesError as exc:
        click.echo(str(exc), err=True)
        sys.exit(1)
    routes = f" and {found.routes.count} routes" if found.routes.written else ""
    click.echo(f"{path}: {len(found)} rules{routes}, nothing is wrong")


@rules.command()
@click.argument("series")
@click.option("--at", "when", help="Time, ISO 8601 (no zone: UTC). Now, when it is not given.")
@click.option("--file", type=_FILE, help="File of rules, for alerts.rules.")
def show(series: str, when: str | None, file: Path | None) -> None:
    """Say which rules hold for SERIES, and the limits that come of them.

    A series is market, topic=Earnings, company=AAPL, 'company=AAPL;topic=Earnings' or 'theme=bank run'.
    """
    from alerts.rules import Rules
    from alerts.rules_file import RulesError
    from alerts.series import SeriesError, check

    config = settings.load()
    at = _time(when)
    path = file or config.alerts.rules
    try:
        check(series)
        found = Rules(config.alerts) if path is None else Rules.load(config.alerts, path)
    except SeriesError as exc:
        raise click.BadParameter(str(exc), param_hint="SERIES") from exc
    except RulesError as exc:
        fail(exc)
    minute = int(at.timestamp() // 60)
    limits, sources = found.limits(series, minute), found.sources(series, minute)
    click.echo(f"{series} at {at.isoformat(timespec='minutes')}")
    click.echo("rules: " + (", ".join(limits.rules) or ("none matches" if path else "there is no file of rules")))
    width = max(map(len, sources))
    for name, value in _shown(limits, theme=series.startswith("theme=")).items():
        click.echo(f"  {name:<{width}}  {value:<24}  {sources[name]}")


@rules.command()
@click.argument("alert")
@click.option("--at", "when", help="Time, ISO 8601 (no zone: UTC). Now, when it is not given.")
@click.option("--file", type=_FILE, help="File of rules, for alerts.rules.")
def explain(alert: str, when: str | None, file: Path | None) -> None:
    """Say who is told of ALERT and when, and the way through rules, routes, hours and silences that leads there.

    ALERT is a file with an alert or the body of a webhook as JSON, `-` for standard input, or the id of an alert in
    Redis or its beginning. Of a file the silences are not known, unless Redis is reached.
    """
    from redis import Redis, RedisError

    from alerts.rules import Rules
    from alerts.rules_file import RulesError
    from alerts.silences import Silences
    from alerts.store import AlertStore
    from alerts.why import explain as lines_of

    config = settings.load()
    at = _time(when)
    path = file or config.alerts.rules
    try:
        found = Rules(config.alerts) if path is None else Rules.load(config.alerts, path)
    except RulesError as exc:
        fail(exc)
    given = _given(alert)
    state, silences, unknown = "", [], ""
    try:
        with Redis.from_url(redis_of(config), socket_timeout=5, socket_connect_timeout=5) as client:
            view = AlertStore(client).view(given.id) if given else alert_of(client, alert)
            silences = Silences(client).all()
    except (RedisError, settings.SettingsError) as exc:
        if given is None:
            raise click.UsageError(f"{alert[:80]!r} is no file, and Redis cannot be asked: {exc}") from exc
        unknown = f"silences are not known: {exc}"
    else:
        if view is not None:
            given, state = given or view.alert, view.life.state
    if given is not None:
        click.echo("\n".join(lines_of(found, given, at, state=state, silences=silences)))
    if unknown:
        click.echo(unknown)


def _given(alert: str) -> Alert | None:
    """The alert in a file or standard input; None when there is no file of that name."""
    import msgspec

    from alerts.alert import Alert, Message

    if alert != "-" and not Path(alert).is_file():
        if alert.endswith(".json"):
            raise click.UsageError(f"there is no file {alert}")
        return None
    raw = click.get_binary_stream("stdin").read() if alert == "-" else Path(alert).read_bytes()
    try:
        found = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        return msgspec.json.decode(raw, type=Message).data if "data" in found else msgspec.json.decode(raw, type=Alert)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise click.UsageError(f"{alert}: neither an alert nor the body of a webhook about one: {exc}") from exc


@rules.command()
def example() -> None:
    """Print a file of rules to begin with."""
    import alerts

    click.echo((Path(alerts.__path__[0]) / "rules.yaml").read_text("utf-8"), nl=False)


def _time(when: str | None) -> datetime:
    try:
        at = datetime.now(UTC) if when is None else datetime.fromisoformat(when)
    except ValueError as exc:
        raise click.BadParameter(f"{when!r} is no time, such as 2026-03-10T14:31", param_hint="--at") from exc
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _shown(limits: Limits, *, theme: bool) -> dict[str, str]:
    from alerts.rules_file import window_name

    critical = limits.critical_z
    threshold = f"{limits.threshold_z:.3g}" if limits.threshold_z else "as themes.threshold_p"
    return {
        "threshold_z": threshold,
        "minimum_count": str(limits.minimum_count),
        "minimum_publishers": str(limits.minimum_publishers),
        "windows": "24 h" if theme else " ".join(map(window_name, limits.windows_min)),
        "critical_from": "never" if math.isinf(critical) else f"{critical:.3g}" if critical else "always",
        "mute": "yes" if limits.muted else "no",
        "receivers": "by the routes" if limits.receivers is None else ", ".join(limits.receivers) or "nobody",
    }


def _topics(config: settings.Settings) -> tuple[str, ...]:
    """The topics of the model; none where the model is not installed."""
    try:
        from model.corrections import known_labels
        from model.errors import ModelError
        from model.identity import weights_folder
    except ModuleNotFoundError:
        return ()
    try:
        return tuple(known_labels(weights_folder(config.model)).topic)
    except ModelError:
        return ()
