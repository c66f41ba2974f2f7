"""What a run leaves beside its weights: `run.json`, `metrics.jsonl` and `curves.png`."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import ModelError

if TYPE_CHECKING:
    from model.settings import TrainSettings
    from model.training_sets import TrainingSets

RESULT = "result.json"
_METRICS = "metrics.jsonl"


def describe(settings: TrainSettings, sets: TrainingSets) -> None:
    """Write `run.json`: settings, git revision, versions, and size and hash of each set of rows."""
    import torch
    import transformers

    settings.out.mkdir(parents=True, exist_ok=True)
    about = {
        "settings": settings.model_dump(mode="json"),
        "revision": _git("rev-parse", "HEAD"),
        "changed_files": (_git("status", "--porcelain") or "").splitlines(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "near_copies": list(sets.copies),
        "sets": {
            f"{part} {data.name}": {
                "rows": len(data),
                "sha256": hashlib.sha256(repr((data.texts, data.sentiment, data.topic)).encode()).hexdigest(),
            }
            for part, chosen in (("train", sets.train), ("dev", sets.dev))
            for data in chosen
        },
    }
    (settings.out / "run.json").write_text(json.dumps(about, indent=2), "utf-8")


class Metrics:
    """`metrics.jsonl`, a line a report; going on from a step drops the lines after it.

    With `tensorboard` the values go to TensorBoard's files in `tensorboard/` too; raises `ModelError` without it.
    """

    def __init__(self, folder: Path, first_step: int, *, tensorboard: bool = False) -> None:
        self._board = _tensorboard(folder / "tensorboard", first_step) if tensorboard else None
        self._path = folder / _METRICS
        kept = [line for line in read(folder) if line["step"] <= first_step]
        self._path.write_text("".join(json.dumps(line) + "\n" for line in kept), "utf-8")

    def add(self, step: int, **values: float) -> None:
        """Append a line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Draw `curves.png`, and end TensorBoard's file."""
        if self._board is not None:
            self._board.close()
        draw_curves(self._path.parent)


def _tensorboard(folder: Path, first_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as exc:
        raise ModelError("tensorboard is not installed: pip install tensorboard, or leave the option out") from exc
    return SummaryWriter(folder, purge_step=first_step + 1)


def read(folder: Path) -> list[dict[str, Any]]:
    """The lines so far; one cut off by a kill is left out."""
    path = folder / _METRICS
    lines = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


def conclude(
    folder: Path,
    version: str,
    dev: Mapping[str, float],
    test: Mapping[str, float],
    temperature: Mapping[str, float],
    minutes: float,
) -> None:
    """Write `result.json`: what came out, and how long this process took for it."""
    result = {
        "version": version,
        "dev": dict(dev),
        "test": dict(test),
        "temperature": dict(temperature),
        "minutes": round(minutes, 2),
    }
    (folder / RESULT).write_text(json.dumps(result, indent=2), "utf-8")


def draw_curves(folder: Path) -> None:
    """Write `curves.png`: loss and learning rate by step, dev scores by step."""
    from matplotlib.figure import Figure

    lines = read(folder)
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    losses = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    if losses:
        left.plot(*zip(*losses, strict=True))
    left.set(title="Training loss", xlabel="step")
    dev = [line for line in lines if "dev" in line]
    for name in sorted({key for line in dev for key in line} - {"step"}):
        points = [(line["step"], line[name]) for line in dev if name in line]
        right.plot(*zip(*points, strict=True), marker="o", label=name)
    right.set(title="Dev scores", xlabel="step")
    if dev:
        right.legend(fontsize=7)
    figure.savefig(folder / "curves.png", dpi=120)


def _git(*command: str) -> str | None:
    """What git says of the code's own folder; `None` where it is not a checkout."""
    try:
        done = subprocess.run(
            ["git", *command], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
