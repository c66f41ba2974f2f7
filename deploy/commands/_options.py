"""Command-line options made of a settings class: its fields, their types and descriptions are the one source."""

from __future__ import annotations

import sys
import tomllib
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import click
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

_Model = TypeVar("_Model", bound=BaseModel)


def fail(message: object) -> typing.NoReturn:
    """End with a message and exit code 2."""
    click.echo(f"newsquake: {message}", err=True)
    sys.exit(2)


def options_of(settings: type[BaseModel]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that adds an option a field, and `--config`; what is not given is `None` or empty."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        config = click.Path(exists=True, dir_okay=False, path_type=Path)
        for name, field in reversed(settings.model_fields.items()):
            command = _option(name, field)(command)
        return click.option("--config", type=config, help="TOML file of these options; those given here win.")(command)

    return add


def settings_of(settings: type[_Model], config: Path | None, options: Mapping[str, Any]) -> _Model:
    """The settings from the file and the options; a mistake ends the process with a message."""
    given: dict[str, Any] = {}
    if config:
        try:
            given = tomllib.loads(config.read_text("utf-8"))
        except (OSError, ValueError) as exc:
            fail(f"{config} cannot be read: {exc}")
    try:
        return settings(**given | {name: value for name, value in options.items() if value not in (None, ())})
    except ValidationError as exc:
        mistakes = [f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in exc.errors()]
        fail(f"{config or 'the options'}: {'; '.join(mistakes)}")


def _option(name: str, field: FieldInfo) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    kind, multiple = _kind(field.annotation)
    flag = f"--{name.replace('_', '-')}"
    default = field.default
    note = "" if default in (None, (), PydanticUndefined) or kind is bool else f" [default: {default}]"
    if kind is bool:
        note = f" [default: {'yes' if default else 'no'}]"
        return click.option(f"{flag}/--no-{name.replace('_', '-')}", default=None, help=f"{field.description}{note}")
    shown: Any = click.Path(path_type=Path) if kind is Path else kind
    if typing.get_origin(kind) is Literal:
        shown = click.Choice(typing.get_args(kind))
    more = " Can be given several times." if multiple else ""
    return click.option(flag, name, type=shown, multiple=multiple, help=f"{field.description}{more}{note}")


def _kind(annotation: Any) -> tuple[Any, bool]:
    """The type of one value, and whether there may be several."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        annotation = next(part for part in typing.get_args(annotation) if part is not type(None))
    if typing.get_origin(annotation) is tuple:
        return typing.get_args(annotation)[0], True
    return annotation, False
