"""A folder of promoted weights: each version in a folder of its own, `current` and `previous` as links to two of them.

A process that loads `current` gets one version or the other, never half of one: links are put in place by a rename.
`promotions.jsonl` tells what was promoted when, over what, and with which scores.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from model.checkpoint import BEST, LAST
from model.errors import ModelError
from model.weights import CONFIG

CURRENT, PREVIOUS, LOG = "current", "previous", "promotions.jsonl"
_LEFT_BEHIND = {LAST, BEST}  # checkpoints: many times the size of the weights, and of no use in serving
_UNSAFE = re.compile(r"[^A-Za-z0-9.+_-]+")


class Store:
    """The folder; every change is one process's at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.current = folder / CURRENT
        self.previous = folder / PREVIOUS

    def promote(self, new: tuple[str, Path], old: tuple[str, Path], at: datetime, about: Mapping[str, Any]) -> Path:
        """Copy both (version, folder) in, unless they are there; `current` is then the new one, `previous` the old.

        Returns the new one's folder here. Raises `ModelError`; `current` is then what it was.
        """
        with self._locked():
            new_name, old_name = (self._bring_in(*each) for each in (new, old))
            if new_name == old_name:
                raise ModelError(f"{new[1]} holds the version {new[0]}, which is in place already")
            self._link(PREVIOUS, old_name)  # first: a process killed between the two leaves a way back
            self._link(CURRENT, new_name)
            self._note(at, {"what": "promoted", "new": new[0], "old": old[0], **about})
        return self.folder / new_name

    def roll_back(self, at: datetime) -> tuple[str, str]:
        """Let `current` and `previous` change places; returns the names now current and now previous.

        Raises `ModelError` when there is nothing to go back to.
        """
        with self._locked():
            names = [self._target(link) for link in (self.current, self.previous)]
            now, before = names
            if now is None or before is None or now == before:
                raise ModelError(f"{self.folder} has no previous weights to go back to")
            self._link(CURRENT, before)
            self._link(PREVIOUS, now)
            self._note(at, {"what": "rolled back", "new": before, "old": now})
        return before, now

    def _bring_in(self, version: str, source: Path) -> str:
        name = _name_of(version, source)
        target = self.folder / name
        if target.is_dir():
            return name
        partial = self.folder / f".{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            _copy(source, partial)
            partial.rename(target)
        except OSError as exc:
            shutil.rmtree(partial, ignore_errors=True)
            raise ModelError(f"{source} cannot be copied into {self.folder}: {exc}") from exc
        return name

    def _link(self, name: str, target: str) -> None:
        link, partial = self.folder / name, self.folder / f".{name}.partial"
        try:
            partial.unlink(missing_ok=True)
            partial.symlink_to(target)
            partial.replace(link)
        except OSError as exc:
            raise ModelError(f"{link} cannot be put in place: {exc}") from exc

    def _target(self, link: Path) -> str | None:
        return link.readlink().name if link.is_symlink() and link.is_dir() else None

    def _note(self, at: datetime, what: Mapping[str, Any]) -> None:
        with (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"at": at.isoformat(), **what}, ensure_ascii=False) + "\n")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / ".lock").open("wb")
        except OSError as exc:
            raise ModelError(f"{self.folder} cannot be written: {exc}") from exc
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # goes with the process that holds it
            yield


def _name_of(version: str, source: Path) -> str:
    """The version, which has a hash of the weights, and one of the configuration: temperatures change answers too."""
    try:
        config = hashlib.sha256((source / CONFIG).read_bytes()).hexdigest()[:8]
    except OSError as exc:
        raise ModelError(f"{source} holds no {CONFIG}: {exc}") from exc
    return f"{_UNSAFE.sub('_', version).lstrip('.') or 'weights'}.{config}"


def _copy(source: Path, target: Path) -> None:
    """Copy the files of a folder of weights, each synced to the disk; folders in it and checkpoints stay behind."""
    target.mkdir(parents=True)
    for file in sorted(source.iterdir()):
        if file.is_file() and file.name not in _LEFT_BEHIND:
            shutil.copyfile(file, target / file.name)
            with (target / file.name).open("rb") as copied:
                os.fsync(copied.fileno())
