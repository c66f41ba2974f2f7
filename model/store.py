"""A folder of promoted weights: each version in a folder of its own, `current` and `previous` as links to two of them.

A process that loads `current` gets one version or the other, never half of one: links are put in place by a rename.
`promotions.jsonl` tells what was promoted when, over what, and with which scores. A line stands there before the links
are moved: where a process is killed between the two, it says what they ought to be. Beside each version lies the path
of the encoder that it was loaded with.
"""

from __future__ import annotations

import errno
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
from typing import Any, NamedTuple

from model.checkpoint import BEST, LAST
from model.errors import ModelError
from model.identity import CONFIG

CURRENT, PREVIOUS, LOG = "current", "previous", "promotions.jsonl"
_LEFT_BEHIND = {LAST, BEST}  # checkpoints: many times the size of the weights, and of no use in serving
_UNSAFE = re.compile(r"[^A-Za-z0-9.+_-]+")


class Weights(NamedTuple):
    """A folder of weights; `encoder` is the folder of its encoder, None for where encoders are kept."""

    version: str
    folder: Path
    encoder: Path | None = None


class Store:
    """The folder; every change is one process's at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.current = folder / CURRENT
        self.previous = folder / PREVIOUS

    def promote(self, new: Weights, old: Weights, at: datetime, about: Mapping[str, Any]) -> Path:
        """Copy both in, unless they are there; `current` is then the new one, `previous` the old.

        Returns the new one's folder here. Raises `ModelError`; `current` is then what it was.
        """
        with self._locked():
            new_name, old_name = (self._bring_in(each) for each in (new, old))
            if new_name == old_name:
                raise ModelError(f"{new.folder} holds the version {new.version}, which is in place already")
            what = {"what": "promoted", "new": new.version, "old": old.version}
            self._note(at, what | {CURRENT: new_name, PREVIOUS: old_name, **about})
            self._link(PREVIOUS, old_name)  # first: a process killed between the two leaves a way back
            self._link(CURRENT, new_name)
        return self.folder / new_name

    def roll_back(self, at: datetime) -> tuple[str, str]:
        """Let `current` and `previous` change places; returns the names now current and now previous.

        Raises `ModelError` when there is nothing to go back to.
        """
        with self._locked():
            now, before = (self._target(link) for link in (self.current, self.previous))
            if now is not None and now == before:  # killed between the two links
                before = self._noted_before(now)
            if now is None or before is None:
                raise ModelError(f"{self.folder} has no previous weights to go back to")
            self._note(at, {"what": "rolled back", "new": before, "old": now, CURRENT: before, PREVIOUS: now})
            self._link(CURRENT, before)
            self._link(PREVIOUS, now)
        return before, now

    def encoder(self, name: str) -> str | None:
        """The path of the encoder of the version in the folder `name`; "": where encoders are kept; None: unknown."""
        try:
            return self._encoder(name).read_text("utf-8").strip()
        except OSError:
            return None

    def _encoder(self, name: str) -> Path:
        return self.folder / f"{name}.encoder"

    def _bring_in(self, weights: Weights) -> str:
        name = _name_of(weights.version, weights.folder)
        target, partial = self.folder / name, self.folder / f".{name}.partial"
        try:
            if not target.is_dir():
                shutil.rmtree(partial, ignore_errors=True)
                _copy(weights.folder, partial)
                partial.rename(target)
            self._encoder(name).write_text(f"{weights.encoder.absolute() if weights.encoder else ''}\n", "utf-8")
        except OSError as exc:
            shutil.rmtree(partial, ignore_errors=True)
            raise ModelError(f"{weights.folder} cannot be copied into {self.folder}: {exc}") from exc
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

    def _noted_before(self, current: str) -> str | None:
        """What `previous` was, or ought to be, while `current` was this: by the last line that tells of it."""
        try:
            lines = (self.folder / LOG).read_text("utf-8").splitlines()
            notes = [json.loads(line) for line in lines]
        except (OSError, ValueError) as exc:
            raise ModelError(f"{self.folder / LOG} cannot be read: {exc}") from exc
        names = [note[PREVIOUS] for note in notes if note.get(CURRENT) == current]
        return names[-1] if names and (self.folder / names[-1]).is_dir() else None

    def _note(self, at: datetime, what: Mapping[str, Any]) -> None:
        line = json.dumps({"at": at.isoformat(), **what}, ensure_ascii=False).encode() + b"\n"
        try:
            with (self.folder / LOG).open("ab", buffering=0) as file:
                size = file.tell()
                if file.write(line) < len(line):  # what fitted on a full disk would spoil the next line
                    file.truncate(size)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as exc:
            raise ModelError(f"{self.folder / LOG} cannot be written: {exc}") from exc

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
