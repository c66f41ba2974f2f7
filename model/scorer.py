"""`Scorer`: texts in, calibrated probabilities out, batched for the device."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.errors import ModelError
from model.settings import ModelSettings
from model.text import clean

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

    from model.network import Network

__all__ = ["ModelError", "Scorer", "Scores"]

log = logging.getLogger(__name__)

_LOOK_AHEAD = 4_096  # texts tokenised and sorted by length at a time; bounds memory
_CPU_TOKENS, _GPU_TOKENS = 2_048, 65_536  # padded tokens a batch


class Scores(NamedTuple):
    """Probabilities of n texts, in the order of the texts."""

    sentiment: NDArray[np.float32]  # (n, sentiment labels), columns as `Scorer.sentiment_labels`
    topic: NDArray[np.float32]  # (n, topic labels), columns as `Scorer.topic_labels`


class Scorer:
    """The network on its device. `score` may be called from any thread; calls wait for each other."""

    def __init__(
        self, network: Network, tokenizer: Tokenizer, *, version: str, device: str, token_budget: int, bfloat16: bool
    ) -> None:
        import torch

        self.version = version
        self.device = device
        self.sentiment_labels = tuple(network.config.sentiment_labels)
        self.topic_labels = tuple(network.config.topic_labels)
        torch.nn.Module.to(network, device)
        self._network = network
        if bfloat16:  # the heads stay in float32
            torch.nn.Module.to(network.encoder, torch.bfloat16)
        self._tokenizer = tokenizer
        self._token_budget = token_budget
        self._lock = threading.Lock()

    @classmethod
    def load(cls, settings: ModelSettings) -> Scorer:
        """The scorer that the settings describe; raises `ModelError`, whose message says what to do.

        Reads local files only, never the network.
        """
        try:
            import torch

            from model.device import has_bfloat16, pick_device
            from model.encoder import encoder_folder, load_tokenizer
            from model.weights import unpack
        except ModuleNotFoundError as exc:
            raise ModelError(f"{exc.name} is not installed: pip install 'newsquake[model]'") from exc
        device = pick_device(settings.device)
        if settings.threads:
            torch.set_num_threads(settings.threads)
        network, version = unpack(settings.weights, settings.encoder)
        tokenizer = load_tokenizer(encoder_folder(settings.encoder), settings.max_tokens or network.config.max_tokens)
        on_gpu = device.startswith("cuda")
        token_budget = settings.token_budget or (_GPU_TOKENS if on_gpu else _CPU_TOKENS)
        bfloat16 = has_bfloat16("cuda" if on_gpu else "cpu")
        log.info("model %s loaded on %s in %s", version, device, "bfloat16" if bfloat16 else "float32")
        return cls(network, tokenizer, version=version, device=device, token_budget=token_budget, bfloat16=bfloat16)

    def score(self, texts: Sequence[str]) -> Scores:
        """Probabilities of each text, in the order given. Blocks; torch releases the GIL for most of it.

        Texts that are the same once clean are scored once. Any string is accepted: only its first
        `model.text.MAX_CHARS` characters and the weights' `max_tokens` tokens are read, and an empty one gets the
        probabilities of no words at all. Raises `ModelError` when not even one text fits into the device's memory.
        """
        cleaned = [clean(text) for text in texts]
        places: dict[str, int] = {}
        which = [places.setdefault(text, len(places)) for text in cleaned]
        unique = list(places)
        sentiment = np.empty((len(unique), len(self.sentiment_labels)), np.float32)
        topic = np.empty((len(unique), len(self.topic_labels)), np.float32)
        for start in range(0, len(unique), _LOOK_AHEAD):
            encodings = self._tokenizer.encode_batch_fast(unique[start : start + _LOOK_AHEAD])
            ids = [encoding.ids for encoding in encodings]
            for batch in token_batches([len(tokens) for tokens in ids], self._token_budget):
                with self._lock:
                    part = self._run([ids[i] for i in batch])
                rows = np.array(batch) + start
                sentiment[rows], topic[rows] = part
        return Scores(sentiment[which], topic[which])

    def _run(self, ids: list[list[int]]) -> Scores:
        """One batch; halved, as often as needed, when the device has no memory for it."""
        import torch

        try:
            return self._forward(ids)
        except (torch.OutOfMemoryError, MemoryError) as exc:
            if len(ids) == 1:
                raise ModelError(
                    f"{self.device} has no memory for a single text: free some, or set device to cpu"
                ) from exc
        half = len(ids) // 2
        log.warning("no memory on %s for %d texts at once: halving the batch", self.device, len(ids))
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()
        parts = self._run(ids[:half]), self._run(ids[half:])
        return Scores(*(np.concatenate(pair) for pair in zip(*parts, strict=True)))

    def _forward(self, ids: list[list[int]]) -> Scores:
        import torch

        longest = max(len(tokens) for tokens in ids)
        padded = np.zeros((len(ids), longest), np.int64)
        mask = np.zeros_like(padded)
        for line, tokens in enumerate(ids):
            padded[line, : len(tokens)] = tokens
            mask[line, : len(tokens)] = 1
        with torch.inference_mode():
            logits = self._network(self._tensor(padded), self._tensor(mask))
            sentiment, topic = self._network.probabilities(logits)
            return Scores(sentiment.cpu().numpy(), topic.cpu().numpy())

    def _tensor(self, array: NDArray[np.int64]) -> torch.Tensor:
        import torch

        return torch.from_numpy(array).to(self.device)


def token_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Places of the texts in batches of similar length whose padded size (texts x longest) fits the budget.

    A text longer than the budget gets a batch of its own.
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):  # ascending: the newest is the longest
        if batch and (len(batch) + 1) * lengths[place] > budget:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
