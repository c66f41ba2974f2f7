"""The file of rules: what may stand in it, and what is said, with line and column, when something else does."""

from __future__ import annotations

import fnmatch
import math
import re
import typing
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, PrivateAttr, ValidationError, model_validator

from alerts.rolling import WINDOWS_MIN
from alerts.route_file import Name, Names, Route, listing, route_problems
from alerts.spelling import listed, near
from alerts.time_intervals import NamedIntervals
from alerts.yaml_tree import MAX_BYTES, Node, Place, Problem, YamlError, read_yaml

MAX_RULES = 1_000
_SHOWN = 50
_UNITS_MIN = {"": 1, "m": 1, "min": 1, "h": 60, "d": 1_440}
_DURATION = re.compile(r"(\d{1,5}) ?(m|min|h|d|)")

Kind = Literal["market", "topic", "company", "company_topic", "theme"]
Sensitivity = Literal["lowest", "low", "normal", "high", "highest"]


class RulesError(ValueError):
    """The rules cannot be used; each problem says where and what to do, `str` is one a line."""

    def __init__(self, file: Path, problems: Iterable[Problem]) -> None:
        self.file = file
        self.problems = sorted(problems)
        lines = [f"{file}:{each.line}:{each.column}: {each.text}" for each in self.problems[:_SHOWN]]
        more = len(self.problems) - _SHOWN
        super().__init__("\n".join([*lines, f"and {more} more"] if more > 0 else lines))


def window_name(minutes: int) -> str:
    """Return a window as rules write it.

    >>> window_name(15), window_name(240), window_name(1_440)
    ('15m', '4h', '1d')
    """
    unit = next(unit for unit in ("d", "h", "m") if minutes % _UNITS_MIN[unit] == 0)
    return f"{minutes // _UNITS_MIN[unit]}{unit}"


def _window(value: Any) -> Any:
    found = _DURATION.fullmatch(str(value).strip())
    minutes = int(found[1]) * _UNITS_MIN[found[2]] if found else 0
    if minutes not in WINDOWS_MIN:
        kept = ", ".join(window_name(each) for each in WINDOWS_MIN)
        raise ValueError(f"{str(value)[:60]!r} is no window; those that are kept: {kept}")
    return minutes


def _critical(value: Any) -> Any:
    return {"always": 0.0, "never": math.inf}.get(value, value) if isinstance(value, str) else value


Kinds = Annotated[tuple[Kind, ...], BeforeValidator(listing), Field(min_length=1)]
Window = Annotated[int, BeforeValidator(_window)]
Windows = Annotated[tuple[Window, ...], BeforeValidator(listing), Field(min_length=1)]


class Match(BaseModel, frozen=True, extra="forbid"):
    """Which series, and when. All that is given must hold; of a list, one entry. `*` stands for any characters."""

    topic: Names = ()
    company: Names = ()
    group: Names = ()
    theme: Names = ()
    kind: Kinds = ()
    during: Names = ()
    outside: Names = ()


class Values(BaseModel, frozen=True, extra="forbid"):
    """What a rule can set. What it leaves out is as in `defaults`, and then as in the settings."""

    threshold_z: float | None = Field(default=None, ge=2, le=100)
    sensitivity: Sensitivity | None = None
    windows: Windows | None = None
    minimum_count: int | None = Field(default=None, ge=1, le=1_000_000)
    minimum_publishers: int | None = Field(default=None, ge=1, le=1_000_000)
    critical_from: Annotated[float | None, BeforeValidator(_critical)] = Field(default=None, ge=0)
    mute: bool | None = None
    receivers: Annotated[tuple[Name, ...] | None, BeforeValidator(listing)] = None

    @model_validator(mode="after")
    def _one_threshold(self) -> Values:
        if self.threshold_z is not None and self.sensitivity is not None:
            raise ValueError("threshold_z and sensitivity say the same; keep one")
        return self


class Rule(Values, frozen=True):
    """Values for the series that match. `continue` says to look further for what this rule leaves open."""

    name: Name
    match: Match = Match()
    continue_: bool = Field(default=False, alias="continue")


class RulesFile(BaseModel, frozen=True, extra="forbid"):
    """All that a file of rules can hold."""

    groups: dict[Name, Names] = {}
    time_intervals: tuple[NamedIntervals, ...] = ()
    defaults: Values = Values()
    rules: tuple[Rule, ...] = Field(default=(), max_length=MAX_RULES)
    route: Route | None = None
    _tree: Node | None = PrivateAttr(None)

    def line(self, path: Place) -> int:
        """Return the line in which what `path` leads to begins, 0 when this was not read from a file."""
        return self._tree.place(path, of_key=True)[0] if self._tree is not None else 0


def read_bytes(file: Path) -> bytes:
    """Return what the file holds.

    Raises:
        RulesError: it cannot be read, or is larger than any file of rules.
    """
    try:
        if not file.is_file():  # a pipe or device would keep the reader waiting
            raise RulesError(file, [Problem(1, 1, "is no file; give the path of one (setting alerts.rules)")])
        with file.open("rb") as source:
            return source.read(MAX_BYTES + 1)
    except OSError as exc:
        raise RulesError(file, [Problem(1, 1, f"cannot be read: {exc.strerror}")]) from exc


def parse(raw: bytes, file: Path, *, receivers: Collection[str], topics: Collection[str] = ()) -> RulesFile:
    """Return what a file holds. `receivers` are those of the settings; `topics`, where known, all topics.

    Raises:
        RulesError: anything in it is wrong; all that is found is told.
    """
    try:
        tree = read_yaml(raw)
    except YamlError as exc:
        raise RulesError(file, [exc.problem]) from exc
    try:
        found = RulesFile.model_validate(tree.plain())
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_context=False)
        paths = [error["loc"] for error in errors]
        # A list whose only entry is wrong is said to be empty, too.
        told = [e for e in errors if not any(e["loc"] == path[: len(e["loc"])] != path for path in paths)]
        raise RulesError(file, [_problem(tree, error) for error in told]) from exc
    found._tree = tree  # type: ignore[misc]  # frozen, but for its reader
    problems = list(_references(found, tree, receivers, topics))
    if found.route is not None:
        problems += route_problems(
            found.route,
            tree,
            receivers=receivers,
            intervals=[each.name for each in found.time_intervals],
            rules=[rule.name for rule in found.rules],
            topics=topics,
        )
    if problems:
        raise RulesError(file, problems)
    return found


def _references(found: RulesFile, tree: Node, receivers: Collection[str], topics: Collection[str]) -> Iterator[Problem]:
    """Yield the names that nothing bears, that two things bear, and the rules that nothing reaches."""

    def at(path: tuple[int | str, ...], text: str) -> Problem:
        return Problem(*tree.place(path), text)

    intervals = [each.name for each in found.time_intervals]
    for kind, names in (("time_intervals", intervals), ("rules", [rule.name for rule in found.rules])):
        seen: dict[str, int] = {}
        for number, name in enumerate(names):
            first = seen.setdefault(name, number)
            if first != number:
                line = tree.place((kind, first, "name"))[0]
                yield at((kind, number, "name"), f"{_short(name)} is the name of another, in line {line}; change one")
    known = {"group": found.groups, "during": intervals, "outside": intervals}
    what = {"group": "group", "during": "time interval", "outside": "time interval"}
    caught: Rule | None = None
    for number, rule in enumerate(found.rules):
        for field, names_known in known.items():
            for place, name in _each(getattr(rule.match, field), ("rules", number, "match", field)):
                if name not in names_known:
                    yield at(place, f"no {what[field]} is called {_short(name)}{_instead(name, names_known)}")
        for place, name in _each(rule.match.topic, ("rules", number, "match", "topic")):
            if topics and not any(Glob(name).matches(topic) for topic in topics):
                yield at(place, f"the model has no topic {_short(name)}{_instead(name, topics)}")
        if caught is not None:
            yield at(
                ("rules", number, "name"),
                f"is never reached: {_short(caught.name)} above matches everything; "
                "move it up, or give that one `continue: true`",
            )
        elif rule.match == Match() and not rule.continue_:
            caught = rule
    holders: list[tuple[tuple[int | str, ...], Values]] = [(("defaults",), found.defaults)]
    holders += [(("rules", number), rule) for number, rule in enumerate(found.rules)]
    for path, values in holders:
        for place, name in _each(values.receivers or (), (*path, "receivers")):
            if name not in receivers:
                yield at(place, f"no receiver is called {_short(name)}{_instead(name, receivers)}")


def _each(names: tuple[str, ...], path: tuple[int | str, ...]) -> Iterator[tuple[tuple[int | str, ...], str]]:
    """Yield each name with its path."""
    for number, name in enumerate(names):
        yield (*path, number), name


def _instead(name: str, known: Iterable[str]) -> str:
    known = list(known)
    return near(name, known) or (f"; there are: {listed(known)}" if known else "; there is none")


def _short(name: str) -> str:
    return repr(name[:60])


class Glob:
    """A pattern of names: `*`, `?` and `[...]` as in file names, capitals and small letters alike."""

    def __init__(self, pattern: str, *, words: bool = False) -> None:
        """`words`: without such characters, what has the words of the pattern side by side matches."""
        folded = " ".join(pattern.casefold().split())
        if words and not set(folded) & set("*?["):
            self._regex = re.compile(rf"(?:.*\W)?{re.escape(folded)}(?:\W.*)?", re.DOTALL)
        else:
            self._regex = re.compile(fnmatch.translate(folded))

    def matches(self, name: str) -> bool:
        """Say whether the whole of a name is as the pattern says."""
        return self._regex.fullmatch(name.casefold()) is not None


_SAID = {
    "missing": "is missing; add it",
    "too_short": "must have an entry; give it one, or remove the line",
    "model_type": "must be a map: lines `key: value`, indented below",
    "dict_type": "must be a map: lines `key: value`, indented below",
    "tuple_type": "must be a list: lines that begin with `-`, or [a, b]",
    "string_type": "must be a text",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_type": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a number",
}


def _problem(tree: Node, error: Any) -> Problem:
    """Put into words what pydantic found."""
    path: tuple[int | str, ...] = tuple(error["loc"])
    unknown, missing = error["type"] == "extra_forbidden", error["type"] == "missing"
    line, column = tree.place(path, of_key=unknown or path[-1:] == ("[key]",))
    name = next((str(part) for part in reversed(path) if not isinstance(part, int) and part != "[key]"), "the file")
    name = name[:60] if name.isprintable() else ascii(name[:60])
    if unknown:
        keys = _keys(path[:-1])
        return Problem(line, column, f"{name} is not known here{near(name, keys) or f'; known: {listed(keys)}'}")
    given = error["input"]
    if given is None:
        return Problem(line, column, f"{name} has no value; give it one, or remove the line")
    said = _SAID.get(error["type"]) or error["msg"].removeprefix("Value error, ").replace("Input should", "must")
    if isinstance(given, str) and not missing and _short(given) not in said:
        said += f", not {_short(given)}"
    return Problem(line, column, f"{name}: {said}" if path else f"the file {said}")


def _keys(path: tuple[int | str, ...]) -> list[str]:
    """Return the keys that may stand in the map that `path` leads to."""
    model: Any = RulesFile
    for part in path:
        if isinstance(part, int):
            continue
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        model = next(_models(fields[part].annotation), model)
    return [field.alias or name for name, field in model.model_fields.items()]


def _models(annotation: Any) -> Iterator[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _models(part)
