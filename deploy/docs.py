"""Writes docs/settings.md and docs/metrics.md from the code: `python -m deploy.docs`; `--check` says if they differ."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from alerts.desk.metrics import DeskMetrics
from alerts.metrics import AlertsMetrics
from deploy.metrics import ProcessMetrics
from deploy.settings import DEFAULT_FILE, FILE_VARIABLE, Settings
from ingest.metrics import IngestMetrics
from model.metrics import DriftMetrics
from stream.metrics import StreamMetrics

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs"

_SETTINGS = f"""\
# Settings

Written by `python -m deploy.docs` from the settings' own descriptions.

Settings come from `{DEFAULT_FILE}` in the working directory, or the file that the variable `{FILE_VARIABLE}` names, and
from environment variables, which win. A name such as `kafka.partitions` is `partitions` in the table `[kafka]` of the
file; lists and tables are JSON in a variable, and two underscores stand between section and name. A setting that is
unknown or wrong stops the process with exit status 2 and a line that names it. Secrets are never printed: give them as
variables, or in a file that only newsquake can read.
"""

_METRICS = """\
# Metrics

Written by `python -m deploy.docs` from the metrics' own help texts. Each process serves its own on `/metrics`.

A counter's name ends in `_total`; a histogram is `_bucket`, `_sum` and `_count`. All labels are bounded: by the sources
configured, by the partitions, by the labels of the model, or by the values that the help text lists. Prometheus adds
`job` (`newsquake-ingest`, `newsquake-stream`, `newsquake-alerts`, `newsquake-desk`) and `instance`.
"""

_LISTENING = """\
## Not a setting

`NEWSQUAKE_LISTEN_SECRET`: the signing secret of `newsquake listen`, the receiver that prints alerts.
"""


class _Setting(NamedTuple):
    name: str
    variable: str
    default: str
    description: str


def settings_page() -> str:
    """Return docs/settings.md: each setting with its variable, default and description."""
    parts = [_SETTINGS]
    for section, field in Settings.model_fields.items():
        model = next(iter(_models(field.annotation)), None)
        if model is None:
            raise TypeError(f"the section {section} is no pydantic model")
        about = (model.__doc__ or "").strip()
        table = [("Setting", "Variable", "Default", "What it is"), ("---",) * 4]
        table += [(f"`{s.name}`", _wrapped(s.variable), s.default, s.description) for s in _walk(model, section)]
        parts.append(f"## {section}\n\n{about}\n\n{_table(table)}")
    return "\n".join([*parts, _LISTENING])


def metrics_page() -> str:
    """Return docs/metrics.md: each metric with its type, labels and help."""
    parts = [_METRICS]
    for title, metrics in (
        ("newsquake ingest", IngestMetrics(CollectorRegistry())),
        ("newsquake stream", StreamMetrics(CollectorRegistry())),
        ("newsquake alerts", AlertsMetrics(CollectorRegistry())),
        ("newsquake desk", DeskMetrics(CollectorRegistry())),
        ("newsquake drift", DriftMetrics(CollectorRegistry())),
        ("Every process", ProcessMetrics(CollectorRegistry(), lambda: ([], []))),
    ):
        table = [("Metric", "Type", "Labels", "What it says"), ("---",) * 4]
        for metric in vars(metrics).values():
            if not isinstance(metric, MetricWrapperBase):
                raise TypeError(f"{title}: {metric!r} is no metric")
            (family,) = metric.describe()
            suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
            labels = ", ".join(f"`{label}`" for label in metric._labelnames)
            table.append((f"`{family.name}{suffix}`", family.type, labels, family.documentation))
        parts.append(f"## {title}\n\n{_table(table)}")
    parts.append("Every process also serves prometheus-client's `process_*` metrics: memory, CPU, open files, start.\n")
    return "\n".join(parts)


def _walk(model: type[BaseModel], prefix: str) -> Iterator[_Setting]:
    for name, field in model.model_fields.items():
        path = f"{prefix}.{name}"
        inner = _models(field.annotation)
        if inner and not _is_list(field):
            yield from _walk(inner[0], path)
            continue
        variable = "NEWSQUAKE_" + path.replace(".", "__").upper()
        yield _Setting(path, variable, _default(field), " ".join(filter(None, (field.description, _choices(field)))))
        common = set.intersection(*(set(_walk(each, f"{path}[]")) for each in inner)) if inner else set()
        for number, each in enumerate(inner):
            for entry in _walk(each, f"{path}[]"):
                if entry not in common:
                    kind = each.model_fields["type"].default
                    yield entry._replace(name=entry.name.replace("[]", f"[{kind}]", 1), variable="")
                elif number == 0:
                    yield entry._replace(variable="")


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models that a value, or each entry of its list, may be, by `type` when there are several; none if plain."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for kind in typing.get_args(annotation) for model in _models(kind)]


def _is_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(_is_secret(kind) for kind in typing.get_args(annotation))


def _is_list(field: FieldInfo) -> bool:
    return typing.get_origin(field.annotation) is tuple


def _choices(field: FieldInfo) -> str:
    """What a setting may be, where that is a list of words."""
    words = typing.get_args(field.annotation) if typing.get_origin(field.annotation) is typing.Literal else ()
    return f"One of: {', '.join(f'`{each}`' for each in words)}." if len(words) > 1 else ""


def _default(field: FieldInfo) -> str:
    secret = "secret, " if _is_secret(field.annotation) else ""
    value: Any = field.default
    if field.default_factory is not None:
        value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined or value is ...:
        return f"{secret}needed"
    if value is None:
        return f"{secret}unset"
    if isinstance(value, SecretStr):
        return "secret, set"
    if isinstance(value, Path):
        value = str(value.relative_to(ROOT)) if value.is_relative_to(ROOT) else str(value)
    if isinstance(value, tuple):
        value = list(value)
    text = json.dumps(value, ensure_ascii=False)
    return f"{secret}`{text}`"


def _wrapped(variable: str) -> str:
    return f"`{variable}`" if variable else "in its list"


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    return "".join(f"| {' | '.join(map(_cell, row))} |\n" for row in rows)


def _cell(text: str) -> str:
    parts = text.replace("|", "\\|").split("`")  # every second one is code, where < stands for itself
    return "`".join(part if number % 2 else part.replace("<", "&lt;") for number, part in enumerate(parts))


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; exit 1 when a page is out of step.")
def main(check: bool) -> None:
    """Write docs/settings.md and docs/metrics.md."""
    pages = {FOLDER / "settings.md": settings_page(), FOLDER / "metrics.md": metrics_page()}
    stale = {path: text for path, text in pages.items() if not path.is_file() or path.read_text("utf-8") != text}
    if check and stale:
        names = ", ".join(path.name for path in stale)
        raise click.ClickException(f"out of step with the code: {names}; run `python -m deploy.docs`")
    for path, text in stale.items():
        path.write_text(text, "utf-8")
        click.echo(f"wrote {path}")


if __name__ == "__main__":
    main()
