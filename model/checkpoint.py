"""Checkpoints: everything a run needs to go on from a step and end as if it had never stopped."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from model.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model.batches import Targets
    from model.settings import TrainSettings

LAST, BEST = "checkpoint.pt", "best.pt"

# What does not change the result.
_ASIDE = {"out", "encoder", "teacher_encoder", "threads", "version", "checkpoint_s", "accumulate"}


def fingerprint(settings: TrainSettings, texts: Sequence[str], targets: Targets) -> str:
    """Changes with anything that changes the result: recipe, rows, teachers' probabilities."""
    digest = hashlib.sha256(settings.model_dump_json(exclude=_ASIDE | _PATHS).encode())
    for text in texts:
        digest.update(text.encode() + b"\0")
    for part in vars(targets).values():
        digest.update(part.tobytes())
    return digest.hexdigest()


# The rows themselves are in the fingerprint, wherever they came from.
_PATHS = {"tfns", "tfnt", "sentfin", "phrasebank", "labels", "unlabelled", "start", "teachers"}


def save(path: Path, state: dict[str, Any]) -> None:
    """Write the state whole or not at all; raises `ModelError` when the disk is full, and the old file stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            torch.save(state, file)
        partial.replace(path)
    except (OSError, RuntimeError) as exc:  # torch reports a short write as RuntimeError
        partial.unlink(missing_ok=True)
        full = isinstance(exc, RuntimeError) or exc.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full" if full else str(exc)
        raise ModelError(
            f"{path} cannot be written: {what}; the last checkpoint stays, so free some space and start again"
        ) from exc


def load(path: Path, run: str) -> dict[str, Any] | None:
    """The state of this run, `None` when there is none; raises `ModelError` when it is of another run."""
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    if state["run"] != run:
        raise ModelError(f"{path} is of a run with other settings or data: delete it, or choose another folder")
    return state
