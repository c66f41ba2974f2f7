"""The same recipe with several seeds: what of a score is the recipe's, and what is luck."""

from __future__ import annotations

import json
import logging
import statistics
from collections.abc import Callable, Sequence

from model.run_folder import RESULT
from model.settings import TrainSettings
from model.train import train

log = logging.getLogger(__name__)


def train_seeds(
    settings: TrainSettings,
    seeds: Sequence[int],
    progress: Callable[[str], None] = log.info,
    on_step: Callable[[int, int, float], None] = lambda done, of, loss: None,
) -> dict[str, tuple[float, float]]:
    """Train into `out/seed-N` for each seed; returns mean and standard deviation of each dev and test score.

    They are written to `out/seeds.json` too. The folders can be the teachers of a next run. Raises as `train` does.
    """
    results = []
    for seed in seeds:
        progress(f"seed {seed}")
        out = train(settings.model_copy(update={"seed": seed, "out": settings.out / f"seed-{seed}"}), progress, on_step)
        result = json.loads((out / RESULT).read_text("utf-8"))
        results.append(result["dev"] | {f"test {name}": value for name, value in result["test"].items()})
    spread = {
        name: (
            statistics.fmean(result[name] for result in results),
            statistics.stdev(result[name] for result in results) if len(results) > 1 else 0.0,
        )
        for name in results[0]
    }
    told = {name: {"mean": round(mean, 5), "deviation": round(dev, 5)} for name, (mean, dev) in spread.items()}
    (settings.out / "seeds.json").write_text(json.dumps({"seeds": list(seeds), "scores": told}, indent=2), "utf-8")
    for name, (mean, deviation) in spread.items():
        progress(f"{name}: mean {mean:.4f}, standard deviation {deviation:.4f} over {len(seeds)} seeds")
    return spread
