"""Which weights the settings mean, and what a scorer with them is called, by their files: nothing is loaded."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import NamedTuple

from model.device import pick_device
from model.encoder import MPNET, encoder_folder
from model.errors import ModelError
from model.settings import SHIPPED_WEIGHTS, ModelSettings

log = logging.getLogger(__name__)

CONFIG, WEIGHTS = "config.json", "weights.safetensors"
MAX_TOKENS = 96
"""Tokens read of a text at once, where the configuration says nothing."""


class Identity(NamedTuple):
    """What tells one scorer from others, see `Scorer`, and its labels in the order of their columns."""

    version: str
    fingerprint: str
    sentiment_labels: tuple[str, ...]
    topic_labels: tuple[str, ...]


def weights_folder(settings: ModelSettings) -> Path:
    """The folder set, or the size of ours that suits the device: `base` needs its encoder to be there."""
    if settings.weights is not None:
        return settings.weights
    on_gpu = pick_device(settings.device.split(",")[0]).startswith("cuda")
    small, base = SHIPPED_WEIGHTS / "small", SHIPPED_WEIGHTS / "base"
    if settings.size == "base" or (settings.size == "auto" and on_gpu and _kept(settings)):
        return base
    if on_gpu and settings.size == "auto":
        log.info("the encoder of the size base is not there (`newsquake fetch-encoder`): the size small is used")
    return small


def version_of(name: str, weights: bytes) -> str:
    """The version of weights: their name and 8 hex digits of the SHA-256 of their file."""
    return f"{name}+{hashlib.sha256(weights).hexdigest()[:8]}"


def fingerprint_of(version: str, config: bytes, max_tokens: int) -> str:
    """What makes the scores beside the weights: calibrating them anew changes their configuration alone."""
    return f"{version}, configured {hashlib.sha256(config + f' {max_tokens}'.encode()).hexdigest()[:16]}"


def identity_of(settings: ModelSettings) -> Identity:
    """What `Scorer.load` would give for these settings, without a `sentiment_model`.

    Raises:
        ModelError: there are no weights.
    """
    folder = weights_folder(settings)
    try:
        raw = (folder / CONFIG).read_bytes()
        config = json.loads(raw)
        labels = config.get("sentiment_labels", ()), config.get("topic_labels", ())
        version = version_of(config.get("version", ""), (folder / WEIGHTS).read_bytes())
        fingerprint = fingerprint_of(version, raw, settings.max_tokens or config.get("max_tokens", MAX_TOKENS))
        return Identity(version, fingerprint, *map(tuple, labels))
    except (OSError, ValueError, AttributeError, TypeError) as exc:
        raise ModelError(
            f"no weights in {folder}: {exc!r}; it must hold {CONFIG} and {WEIGHTS} as `newsquake train` writes them"
        ) from exc


def _kept(settings: ModelSettings) -> bool:
    try:
        encoder_folder(settings.encoder, MPNET)
    except ModelError:
        return False
    return True
