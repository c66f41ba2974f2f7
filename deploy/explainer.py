"""The explainer that is handed to alerting: the model, loaded when the first alert asks for it."""

from __future__ import annotations

import importlib.util
import logging
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from alerts.explain import MAX_WORDS, Explainer
from alerts.windows import NEGATIVE
from model.settings import ModelSettings

if TYPE_CHECKING:
    from model import explain

log = logging.getLogger(__name__)

_THREADS = 1  # what is left is the stream's


def explainer_of(settings: ModelSettings) -> Explainer | None:
    """Return the explainer for alerts, or None, and say so, where the extra `model` is not installed."""
    if importlib.util.find_spec("torch") is None:
        log.info("alerts show no words that weighed most: pip install 'newsquake[model]' on this machine for them")
        return None
    return LazyExplainer(settings)


class LazyExplainer:
    """Explains titles with the weights that score the stream, but always on a CPU: alerts are few."""

    def __init__(self, settings: ModelSettings) -> None:
        self._settings = settings
        self._model: explain.Explainer | None = None
        self._lock = threading.Lock()

    def __call__(self, titles: Sequence[str]) -> list[list[tuple[str, float]]]:
        """See `alerts.explain.Explainer`.

        Raises:
            ModelError: the model cannot be loaded or run, or has no sentiment called negative.
        """
        with self._lock:
            if self._model is None:
                self._model = self._load()
        explanations = self._model.explain(titles, label=NEGATIVE)
        return [[(word.text, word.weight) for word in found.heaviest(MAX_WORDS)] for found in explanations]

    def _load(self) -> explain.Explainer:
        from model.explain import Explainer
        from model.identity import weights_folder

        there = {"device": "cpu", "backend": "torch", "precision": "auto", "replicas": 0, "threads": _THREADS}
        settings = self._settings.model_copy(update={**there, "weights": weights_folder(self._settings)})
        return Explainer.load(settings)
