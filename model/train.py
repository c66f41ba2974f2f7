"""Fine-tuning: the pinned encoder on TFNS, TFNT and SEntFiN at once, on a CPU or a GPU.

Each row trains the encoder and the head of its own set. A checkpoint is written after each epoch; a run that was
killed goes on from there and ends as if nothing had happened, since all randomness is seeded by (seed, epoch).
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from model.allocator import keep_freed_memory
from model.batches import Batch, Examples, plain_batches, tokenise, training_batches
from model.data import SENTFIN_TEST, Labelled, read_sentfin, read_tfns, read_tfnt, split
from model.device import has_bfloat16, pick_device
from model.encoder import encoder_folder, load_encoder, load_tokenizer
from model.errors import ModelError
from model.labels import CONVENTIONS, SENTIMENT
from model.network import TOPIC, Logits, Network, NetworkConfig
from model.settings import TrainSettings

log = logging.getLogger(__name__)

Progress = Callable[[str], None]
_REPORT_STEPS = 100


@dataclass(frozen=True)
class TrainingSets:
    """Rows to learn from and rows to choose and calibrate by, in the order of `HEADS`."""

    train: tuple[Labelled, ...]
    dev: tuple[Labelled, ...]


HEADS = (*CONVENTIONS, TOPIC)


def train(settings: TrainSettings, progress: Progress = log.info) -> Path:
    """Train, calibrate, pack and evaluate; returns the folder with the packed weights (`settings.out`).

    Raises `DataError` where a set is not as expected, `ModelError` where the checkpoint there is of another run.
    """
    from model.evaluate import evaluate, report
    from model.scorer import Scorer
    from model.settings import ModelSettings
    from model.weights import pack

    started = time.monotonic()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    keep_freed_memory()
    sets = read_sets(settings)
    folder = encoder_folder(settings.encoder)
    shape, encoder = load_encoder(folder, settings.encoder_sha256)
    config = NetworkConfig(
        encoder=shape | {"attention_probs_dropout_prob": 0.0},  # the recipe's dropout is the hidden one
        sentiment_labels=SENTIMENT,
        topic_labels=sets.train[-1].labels,
        conventions=CONVENTIONS,
        max_tokens=settings.max_tokens,
        encoder_sha256=settings.encoder_sha256,
        version=settings.version,
    )
    tokenizer = load_tokenizer(folder, settings.max_tokens)
    torch.manual_seed(settings.seed)
    network = Network(config)
    network.encoder.load_state_dict(encoder)
    dev = tokenise(tokenizer, sets.dev)
    _fit(settings, network, tokenise(tokenizer, sets.train), dev, progress)
    network.config.temperature = calibrate(network, dev)
    progress(f"temperatures: {network.config.temperature}")
    size = pack(network, encoder, settings.out)
    progress(f"packed into {settings.out}: {size / 1e6:.1f} MB; {(time.monotonic() - started) / 60:.1f} minutes")
    scorer = Scorer.load(ModelSettings(weights=settings.out, encoder=settings.encoder, threads=settings.threads))
    progress(report(evaluate(scorer, settings.tfns, settings.tfnt, settings.sentfin, settings.phrasebank)))
    return settings.out


def read_sets(settings: TrainSettings) -> TrainingSets:
    """The training parts of the three sets, each split into training and dev rows."""
    parts = (
        read_tfns(settings.tfns, "train"),
        split(read_sentfin(settings.sentfin), *SENTFIN_TEST)[0],
        read_tfnt(settings.tfnt, "train"),
    )
    pairs = [split(part, settings.dev_share, "dev") for part in parts]
    return TrainingSets(tuple(train for train, _ in pairs), tuple(dev for _, dev in pairs))


def calibrate(network: Network, dev: Examples) -> dict[str, float]:
    """The temperature of each head with the least cross-entropy on the dev rows."""
    logits, head, target = _predict(network, dev)
    found = {}
    for index, name in enumerate(HEADS):
        rows = head == index
        own = _of_head(logits, index)[rows]
        candidates = np.geomspace(0.4, 2.5, 106)
        losses = [F.cross_entropy(own / t, target[rows]).item() for t in candidates]
        found[name] = round(float(candidates[int(np.argmin(losses))]), 3)
    return found


def _fit(
    settings: TrainSettings,
    network: Network,
    examples: Examples,
    dev: Examples,
    progress: Progress,
) -> None:
    """The loop over epochs and steps; leaves the network on the device."""
    device = torch.device(pick_device("auto"))
    bfloat16 = has_bfloat16(device.type)
    nn.Module.to(network, device)
    if device.type == "cpu":  # the fused attention's backward pass is ten times slower there, on texts this short
        network.encoder.set_attn_implementation("eager")
    optimizer = _optimizer(network, settings)
    peaks = [group["lr"] for group in optimizer.param_groups]
    steps = settings.epochs * math.ceil(len(examples) / settings.batch_size)
    checkpoint = settings.out / "checkpoint.pt"
    fingerprint = _fingerprint(settings, examples)
    first_epoch = _resume(checkpoint, fingerprint, network, optimizer, progress)
    progress(f"{len(examples)} rows to learn, {len(dev)} dev rows, {steps} steps on {device}, bfloat16: {bfloat16}")

    for epoch in range(first_epoch, settings.epochs):
        torch.manual_seed(settings.seed * 1000 + epoch)
        rng = np.random.default_rng([settings.seed, epoch])
        step = epoch * (steps // settings.epochs)
        started, rows = time.monotonic(), 0
        losses: list[float] = []
        network.train()
        for batch in training_batches(examples, settings.batch_size, settings.masked_words, rng):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * _rate(step / steps, settings.warm_up)
            batch = Batch(*(part.to(device) for part in batch))  # noqa: PLW2901
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                logits = network(batch.input_ids, batch.attention_mask)
            loss = _loss(logits, batch, settings.label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
            optimizer.step()
            step += 1
            losses.append(loss.item())
            rows += len(batch.target)
            if step % _REPORT_STEPS == 0:
                rate = rows / (time.monotonic() - started)
                progress(f"step {step}/{steps}, loss {np.mean(losses):.3f}, {rate:.0f} texts/s")
                losses.clear()
        progress(f"epoch {epoch + 1}: {_dev_scores(network, dev)}")
        _save(checkpoint, {"run": fingerprint, "epoch": epoch + 1}, network, optimizer)


def _loss(logits: Logits, batch: Batch, smoothing: float) -> Tensor:
    """The mean over the batch of the cross-entropy of each row's own head."""
    total = logits.topic.new_zeros(())
    for index in range(len(HEADS)):
        rows = batch.head == index
        total = total + F.cross_entropy(
            _of_head(logits, index)[rows], batch.target[rows], reduction="sum", label_smoothing=smoothing
        )
    return total / len(batch.target)


def _of_head(logits: Logits, index: int) -> Tensor:
    return logits.topic if HEADS[index] == TOPIC else logits.sentiment[:, index]


def _rate(done: float, warm_up: float) -> float:
    """The share of the peak learning rate when `done` of the steps are: linear up, then linear down to 0."""
    return done / warm_up if done < warm_up else (1 - done) / (1 - warm_up)


def _optimizer(network: Network, settings: TrainSettings) -> torch.optim.AdamW:
    """Two learning rates; no decay on biases, norms and embeddings (rows of words never seen stay as they were)."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        rate = settings.encoder_rate if name.startswith("encoder.") else settings.head_rate
        decay = settings.weight_decay if parameter.ndim > 1 and "embeddings" not in name else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()], fused=True
    )


@torch.inference_mode()
def _predict(network: Network, examples: Examples) -> tuple[Logits, Tensor, Tensor]:
    """Logits, heads and targets of all rows, on the CPU."""
    network.train(mode=False)
    device = next(network.parameters()).device
    parts = []
    for batch in plain_batches(examples, 64):
        with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device.type)):
            logits = network(batch.input_ids.to(device), batch.attention_mask.to(device))
        parts.append((logits.sentiment.cpu(), logits.topic.cpu(), batch.head, batch.target))
    sentiment, topic, head, target = (torch.cat(part) for part in zip(*parts, strict=True))
    return Logits(sentiment, topic), head, target


def _dev_scores(network: Network, dev: Examples) -> str:
    from sklearn.metrics import accuracy_score, f1_score

    logits, head, target = _predict(network, dev)
    scores = []
    for index, name in enumerate(HEADS):
        rows = head == index
        truth, guess = target[rows].numpy(), _of_head(logits, index)[rows].argmax(-1).numpy()
        accuracy, macro = accuracy_score(truth, guess), f1_score(truth, guess, average="macro")
        scores.append(f"{name} accuracy {accuracy:.3f} macro F1 {macro:.3f}")
    return "dev " + ", ".join(scores)


def _fingerprint(settings: TrainSettings, examples: Examples) -> str:
    """Changes with anything that changes the result."""
    paths = {"tfns", "tfnt", "sentfin", "phrasebank", "out", "encoder", "threads", "version"}
    digest = hashlib.sha256(settings.model_dump_json(exclude=paths).encode())
    for ids, head, target in zip(examples.ids, examples.head, examples.target, strict=True):
        digest.update(ids.tobytes() + bytes([head, target]))
    return digest.hexdigest()


def _save(path: Path, state: dict[str, Any], network: Network, optimizer: torch.optim.Optimizer) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state | {"network": network.state_dict(), "optimizer": optimizer.state_dict()}, partial)
    partial.replace(path)  # whole or not at all


def _resume(
    path: Path, fingerprint: str, network: Network, optimizer: torch.optim.Optimizer, progress: Progress
) -> int:
    """Load the checkpoint when there is one; returns how many epochs are done."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True, map_location="cpu")
    if state["run"] != fingerprint:
        raise ModelError(f"{path} is of a run with other settings or data: delete it, or choose another folder")
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    progress(f"going on from {path}, {state['epoch']} epochs done")
    return int(state["epoch"])
