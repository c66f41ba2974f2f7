"""The teachers of a run, asked once: what they said is kept in the run folder for when the run goes on."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.batches import Targets
from model.checkpoint import write_whole
from model.settings import TrainSettings
from model.teacher import Soft, network_teacher, taught
from model.training_sets import TrainingSets

_FILE = "taught.npz"
_FIELDS = ("taught", "soft_sentiment", "soft_topic")


def taught_targets(
    settings: TrainSettings, sets: TrainingSets, targets: Targets, run: str, progress: Callable[[str], None]
) -> Targets:
    """The targets with what the run's teachers say of its rows; raises `ModelError`."""
    if not (settings.teachers or settings.tfidf_share):
        return targets
    path = settings.out / _FILE
    known = _read(path, run)
    if known is not None:
        progress("what the teachers said is known from before")
        return replace(targets, **known)
    encoders = [folder for folder in (settings.teacher_encoder, settings.encoder) if folder]
    asked = np.concatenate([np.full(len(data), not data.complete) for data in sets.train])
    texts = [text for text, ask in zip(sets.texts, asked, strict=True) if ask]
    networks = [
        _spread(
            network_teacher(
                folder, encoders, texts, sets.conventions, sets.sentiment_labels, sets.topic_labels, progress
            ),
            asked,
        )
        for folder in settings.teachers
    ]
    found = taught(targets, sets.train, sets.conventions, networks, settings.tfidf_share, settings.seed)
    fields = {name: getattr(found, name) for name in _FIELDS}
    write_whole(path, lambda file: np.savez(file, run=np.array(run), **fields))
    return found


def _spread(soft: Soft, asked: NDArray[np.bool_]) -> Soft:
    """What was said of the rows asked about, with zeros for the others."""
    sentiment, topic = (np.zeros((len(asked), *part.shape[1:]), np.float32) for part in (soft.sentiment, soft.topic))
    sentiment[asked], topic[asked] = soft.sentiment, soft.topic
    return Soft(sentiment, topic)


def _read(path: Path, run: str) -> dict[str, np.ndarray] | None:
    """What was kept for this run; `None` where nothing was, or the file is damaged."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            return {name: kept[name] for name in _FIELDS} if str(kept["run"]) == run else None
    except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile):
        return None
