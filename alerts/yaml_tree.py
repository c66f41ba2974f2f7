"""Strict YAML with positions: a tree of maps, lists and texts, each with its line and column.

Read from the parser's events, without recursion and without building anything that the text names. Tags, anchors and
aliases, repeated keys, a second document and what is too deep or too much are refused. Scalars stay text (whoever reads
the tree makes numbers of them), so that the ticker `ON` is not read as "true" nor `9:30` as a number.
"""

from __future__ import annotations

from typing import Any

import msgspec
import yaml
from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    DocumentStartEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceStartEvent,
)

Place = tuple[int | str, ...]
"""The way to a value: keys of maps and numbers of entries."""
MAX_BYTES = 1_000_000
MAX_NODES = 100_000
MAX_DEPTH = 20
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Problem(msgspec.Struct, frozen=True, order=True):
    """What is wrong at a place of a file; lines and columns count from 1."""

    line: int
    column: int
    text: str


class YamlError(ValueError):
    """A text is not the YAML that is taken here."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.line}:{problem.column}: {problem.text}")
        self.problem = problem


class Node(msgspec.Struct):
    """A text (None: nothing stands there), a list or a map. `keys` are the places of a map's keys."""

    line: int
    column: int
    value: str | list[Node] | dict[str, Node] | None
    keys: dict[str, tuple[int, int]] = {}

    def plain(self) -> Any:
        """Return the values without their places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def place(self, path: Place, *, of_key: bool = False) -> tuple[int, int]:
        """Return line and column of what `path` leads to, or of the last part of it that is there."""
        node = self
        for number, part in enumerate(path):
            value, last = node.value, number == len(path) - 1
            if isinstance(value, dict) and part in value:
                key = str(part)
                if last and (of_key or value[key].value is None):
                    return node.keys[key]
                node = value[key]
            elif isinstance(value, list) and isinstance(part, int) and part < len(value):
                node = value[part]
        return node.line, node.column


def read_yaml(raw: bytes) -> Node:
    """Return the one document in `raw`; an empty map when there is none.

    Raises:
        YamlError: it is not UTF-8, not YAML, or more than is taken here.
    """
    if len(raw) > MAX_BYTES:
        raise YamlError(Problem(1, 1, f"larger than {MAX_BYTES:,} bytes; is it the right file?"))
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        before = raw[: exc.start]
        line, column = before.count(b"\n") + 1, exc.start - before.rfind(b"\n")
        raise YamlError(Problem(line, column, "not UTF-8 from here on; save the file as UTF-8")) from exc
    try:
        return _tree(text)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        said = ", ".join(part for part in (exc.context, exc.problem) if part)
        raise YamlError(Problem(line, column, f"not YAML: {said}; look at indents, colons and quotes")) from exc
    except yaml.YAMLError as exc:  # characters that YAML does not allow
        at = getattr(exc, "position", 0) or 0
        line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
        raise YamlError(Problem(line, column, f"not YAML: {getattr(exc, 'reason', exc)}; remove it")) from exc


def _tree(text: str) -> Node:
    root: Node | None = None
    open_: list[tuple[Node, Node | None]] = []  # lists and maps under way, a map with the key that waits for its value
    nodes = documents = 0
    for event in yaml.parse(text, Loader=_LOADER):
        line, column = (mark.line + 1, mark.column + 1) if (mark := event.start_mark) is not None else (1, 1)
        if isinstance(event, DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise YamlError(Problem(line, column, "a second document begins; put all into one"))
        if isinstance(event, CollectionEndEvent):
            open_.pop()
            continue
        if not isinstance(event, NodeEvent):
            continue
        nodes += 1
        _refuse(event, line, column, depth=len(open_), nodes=nodes)
        node = _node(event, line, column)
        if root is None:
            root = node
        if open_:
            parent, key = open_[-1]
            if isinstance(parent.value, list):
                parent.value.append(node)
            elif key is None:
                _check_key(node, parent)
                open_[-1] = parent, node
            elif isinstance(parent.value, dict):
                parent.value[str(key.value)] = node
                parent.keys[str(key.value)] = key.line, key.column
                open_[-1] = parent, None
        if not isinstance(node.value, str | None):
            open_.append((node, None))
    return root if root is not None and root.value is not None else Node(1, 1, {})


def _node(event: NodeEvent, line: int, column: int) -> Node:
    if isinstance(event, MappingStartEvent):
        return Node(line, column, {})
    if isinstance(event, SequenceStartEvent):
        return Node(line, column, [])
    if not isinstance(event, ScalarEvent):
        raise TypeError(f"an event that is not known: {event}")
    nothing = event.implicit[0] and event.value in ("", "~", "null")  # without quotes
    return Node(line, column, None if nothing else event.value)


def _refuse(event: NodeEvent, line: int, column: int, *, depth: int, nodes: int) -> None:
    problem = ""
    if isinstance(event, AliasEvent) or event.anchor is not None:
        problem = "anchors (&) and aliases (*) are not taken; write it out, and quote text that begins with & or *"
    elif getattr(event, "tag", None) is not None:
        problem = "tags (!) are not taken; quote text that begins with !"
    elif depth >= MAX_DEPTH:
        problem = f"nested more than {MAX_DEPTH} deep"
    elif nodes > MAX_NODES:
        problem = f"more than {MAX_NODES:,} values"
    if problem:
        raise YamlError(Problem(line, column, problem))


def _check_key(node: Node, parent: Node) -> None:
    if not isinstance(node.value, str):
        raise YamlError(Problem(node.line, node.column, "a key must be a word"))
    if node.value in parent.keys:
        first = parent.keys[node.value][0]
        text = f"{node.value[:60]!r} stands twice, first in line {first}; keep one"
        raise YamlError(Problem(node.line, node.column, text))
