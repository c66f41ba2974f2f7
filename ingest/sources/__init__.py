"""Sources of documents behind one small interface.

**To add a source**, put one file beside this docstring, `ingest/sources/<name>.py`, with

* a class with a `name` and a `run` (see `Source`), and
* `def build(settings: IngestSettings, metrics: IngestMetrics) -> list[Source]`, which returns the sources to run: none
  when they are switched off, one for each thing that has a position of its own (a feed, an account, a file).

Nothing else changes: `build_sources` finds the file. What the source can be told stands in `ingest/settings.py`, as a
field of `IngestSettings`. The worker gives each source a thread, publishes, moves the position, and restarts it with
growing waits when it fails, so a source only has to fetch.

`ingest.item.compose` makes a valid document of what was fetched; `ItemError` from it is one item to count and leave
out.
"""

from __future__ import annotations

import importlib
import pkgutil
import threading
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from ingest.document import Document
from ingest.metrics import IngestMetrics
from ingest.settings import IngestSettings


class SourceError(Exception):
    """A source cannot go on for now; it is started again after a while."""


class SourceGoneError(Exception):
    """A source cannot go on at all, in this process: its file is missing, its address is gone for good."""


class SourceSettingsError(SourceGoneError):
    """What the settings say of a source is wrong: only another setting helps."""


class Fetched(NamedTuple):
    """Some documents, at most a few thousand, and the position after them.

    The position is anything JSON can hold. It is stored when Kafka has acknowledged the documents, and handed to `run`
    after a restart; whatever lies before it never comes again.
    """

    documents: list[Document]
    position: object


class Source(Protocol):
    """Something that brings documents."""

    name: str
    """Unique and stable: its position is stored under it."""
    trouble: str
    """Why it brings nothing just now, in words for people; empty when all is well."""

    def run(self, position: object | None, stop: threading.Event) -> Iterator[Fetched]:
        """Yield what follows `position` (None: from the start), until `stop` is set or there is no more.

        Not resumed before the documents of the last `Fetched` are acknowledged and its position is stored. Must notice
        `stop` within a second or two, wait with `stop.wait`, and read a position of unknown shape as None.

        Raises:
            SourceError: try again later.
            SourceGoneError: no use in trying again.
        """
        ...


def build_sources(settings: IngestSettings, metrics: IngestMetrics) -> list[Source]:
    """Return the sources that `settings` switch on, of every module in this folder.

    Raises:
        ValueError: two sources share a name.
    """
    found: list[Source] = []
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        found += importlib.import_module(module.name).build(settings, metrics)
    names = [source.name for source in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"sources share the names {sorted(twice)}; positions are stored by name")
    return found
