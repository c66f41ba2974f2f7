"""Checkpoints: everything a run needs to go on from a step and end as if it had never stopped."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import torch

from model.errors import ModelError

if TYPE_CHECKING:
    from model.batches import Targets
    from model.settings import TrainSettings

LAST, BEST = "checkpoint.pt", "best.pt"

# What does not change what is trained.
_ASIDE = {"out", "threads", "version", "checkpoint_s", "accumulate", "tensorboard", "events_share", "start_share"}
# What these hold is in the fingerprint, wherever it lies.
_PATHS = {
    *("tfns", "tfnt", "sentfin", "phrasebank", "labels", "unlabelled"),
    *("encoder", "start", "teachers", "teacher_encoder"),
}


def fingerprint(settings: TrainSettings, texts: Sequence[str], targets: Targets, files: Iterable[str]) -> str:
    """Changes with anything that changes the result: recipe, rows, and the hashes of the files that the run reads.

    Not with a teacher's probabilities: another number of threads rounds them otherwise, and a run may go on with it.
    """
    digest = hashlib.sha256(settings.model_dump_json(exclude=_ASIDE | _PATHS).encode())
    for text in (*texts, *files):
        digest.update(text.encode() + b"\0")
    for part in (targets.sentiment, targets.topic, targets.weight):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def save(path: Path, state: dict[str, Any]) -> None:
    """Write the state whole or not at all; raises `ModelError` when the disk is full, and the old file stays."""
    write_whole(path, lambda file: torch.save(state, file))


def load(path: Path, run: str) -> dict[str, Any] | None:
    """The state of this run, `None` when there is none; raises `ModelError` when it is of another run, or damaged."""
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        of = state["run"]
    except (OSError, RuntimeError, EOFError, LookupError, ValueError, TypeError, pickle.UnpicklingError) as exc:
        raise ModelError(f"{path} is damaged ({exc}): delete it to start anew, or choose another folder") from exc
    if of != run:
        raise ModelError(f"{path} is of a run with other settings or data: delete it, or choose another folder")
    return state


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a file that takes the place of `path` once it is on the disk; raises `ModelError`."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as exc:  # torch reports a short write as RuntimeError
        partial.unlink(missing_ok=True)
        raise disk_error(exc, path) from exc


def disk_error(exc: OSError | RuntimeError, path: Path) -> ModelError:
    """What to tell of a file that could not be written."""
    full = isinstance(exc, RuntimeError) or exc.errno in (errno.ENOSPC, errno.EDQUOT)
    what = "the disk is full" if full else str(exc)
    return ModelError(
        f"{path} cannot be written: {what}; the last checkpoint stays, so mend that and start again to go on from it"
    )
