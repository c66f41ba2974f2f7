"""Fine-tuning: an encoder with its heads on all labelled sets at once, on a CPU or a GPU.

A checkpoint is written every few minutes. A run that was killed goes on from there and ends as if nothing had happened,
since all randomness is seeded by (seed, epoch) and (seed, step).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from model import checkpoint, run_folder
from model.allocator import keep_freed_memory
from model.batches import Batch, Targets, hard_targets, plain_batches, tokenise, training_batches
from model.calibrate import temperatures
from model.data import UNLABELLED
from model.device import has_bfloat16, pick_device
from model.encoder import SHA256, encoder_folder, load_encoder, load_tokenizer
from model.errors import ModelError
from model.loss import class_weights, loss
from model.network import Logits, Network, NetworkConfig
from model.settings import TrainSettings
from model.teacher import network_teacher, taught
from model.training_sets import TrainingSets, read_training_sets
from model.weights import pack, unpack, write_config

log = logging.getLogger(__name__)

Progress = Callable[[str], None]
_REPORT_STEPS = 100


class _Data(NamedTuple):
    """What the loop reads."""

    texts: list[str]
    targets: Targets
    dev_texts: list[str]
    dev_targets: Targets


def train(settings: TrainSettings, progress: Progress = log.info) -> Path:
    """Train, calibrate and pack; returns the folder with the packed weights (`settings.out`).

    Raises:
        DataError: a set is not as expected.
        ModelError: the checkpoint there is of another run, the loss is no number, or memory or disk are full.
    """
    started = time.monotonic()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    keep_freed_memory()
    sets = read_training_sets(settings)
    run_folder.describe(settings, sets)
    network, encoder = _network(settings, sets)
    data = _data(settings, sets)
    factors = None
    if settings.adapter_rank:
        from model.adapters import adapter_factors, add_adapters

        add_adapters(network, settings.adapter_rank, bfloat16=has_bfloat16(torch.device(pick_device("auto")).type))
        _fit(settings, network, data, progress)
        factors = adapter_factors(network)
    else:
        _fit(settings, network, data, progress)
    size = pack(network, encoder, settings.out, factors)
    served, _ = unpack(settings.out, settings.encoder)  # calibrated as it is served: rounded
    logits = predict(served, settings, data.dev_texts)
    served.config.temperature = temperatures(logits, data.dev_targets, served.config.conventions)
    write_config(served.config, settings.out)
    progress(f"temperatures: {served.config.temperature}")
    progress(f"packed into {settings.out}: {size / 1e6:.1f} MB; {(time.monotonic() - started) / 60:.1f} minutes")
    run_folder.draw_curves(settings.out)
    return settings.out


def _network(settings: TrainSettings, sets: TrainingSets) -> tuple[Network, dict[str, Tensor]]:
    """The network before training and the encoder it is packed against."""
    name = settings.encoder_name
    shape, encoder = load_encoder(
        encoder_folder(settings.encoder, name), SHA256.get(name, "") if settings.encoder is None else ""
    )
    torch.manual_seed(settings.seed)
    config = NetworkConfig(
        encoder=shape
        | {
            "attention_probs_dropout_prob": 0.0,
            "hidden_dropout_prob": 0.0 if settings.adapter_rank else settings.dropout,
        },
        sentiment_labels=sets.sentiment_labels,
        topic_labels=sets.topic_labels,
        conventions=sets.conventions,
        max_tokens=settings.max_tokens,
        dropout=settings.dropout,
        encoder_sha256=weights_sha256(encoder_folder(settings.encoder, name)),
        encoder_name=name,
        weight_bits=settings.weight_bits,
        version=settings.version,
    )
    network = Network(config)
    network.encoder.load_state_dict(encoder)
    if settings.start:
        _start_from(network, settings)
    return network, encoder


def _start_from(network: Network, settings: TrainSettings) -> None:
    """Take over the encoder, and the heads whose names and labels are the same."""
    given, version = unpack(settings.start or Path(), settings.encoder)
    network.encoder.load_state_dict(given.encoder.state_dict())
    if given.config.topic_labels == network.config.topic_labels:
        network.topic.load_state_dict(given.topic.state_dict())
    if given.config.sentiment_labels == network.config.sentiment_labels:
        labels = len(network.config.sentiment_labels)
        ours = network.sentiment.weight.data.view(-1, labels, network.sentiment.in_features)
        bias = network.sentiment.bias.data.view(-1, labels)
        theirs = given.sentiment.weight.data.view(-1, labels, network.sentiment.in_features)
        for place, name in enumerate(network.config.conventions):  # a new convention starts as the mean of the known
            known = [i for i, own in enumerate(given.config.conventions) if own == name] or slice(None)
            ours[place] = theirs[known].mean(0)
            bias[place] = given.sentiment.bias.data.view(-1, labels)[known].mean(0)
    log.info("going on from the weights %s", version)


def weights_sha256(folder: Path) -> str:
    """SHA-256 of the folder's `model.safetensors`."""
    import hashlib

    with (folder / "model.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _data(settings: TrainSettings, sets: TrainingSets) -> _Data:
    texts = sets.texts
    sizes = len(sets.sentiment_labels), len(sets.topic_labels)
    targets = hard_targets(sets.train, sets.conventions, *sizes)
    networks = [
        network_teacher(folder, settings.teacher_encoder, texts, sets.conventions) for folder in settings.teachers
    ]
    targets = taught(targets, sets.train, sets.conventions, networks, settings.tfidf_share, settings.seed)
    dev_texts = [text for data in sets.dev for text in data.texts]
    return _Data(texts, targets, dev_texts, hard_targets(sets.dev, sets.conventions, *sizes))


def _fit(settings: TrainSettings, network: Network, data: _Data, progress: Progress) -> None:
    """The loop over epochs and steps; leaves the network with the best dev score in evaluation mode."""
    device = torch.device(pick_device("auto"))
    bfloat16 = has_bfloat16(device.type)
    nn.Module.to(network, device)
    if device.type == "cpu":  # the fused attention's backward pass is ten times slower there, on texts this short
        network.encoder.set_attn_implementation("eager")
    tokenizer = load_tokenizer(encoder_folder(settings.encoder, settings.encoder_name), settings.max_tokens)
    optimizer = _optimizer(network, settings)
    peaks = [group["lr"] for group in optimizer.param_groups]
    weights = _class_weights(settings, network, data.targets, device)
    epoch_steps = math.ceil(len(data.texts) / settings.batch_size)
    steps = settings.epochs * epoch_steps
    run = checkpoint.fingerprint(settings, data.texts, data.targets)
    state = checkpoint.load(settings.out / checkpoint.LAST, run) or {"step": 0, "best": -1.0, "best_epoch": 0}
    step, best, best_epoch = int(state["step"]), float(state["best"]), int(state["best_epoch"])
    if step:
        network.load_state_dict(state["network"], strict=False)
        optimizer.load_state_dict(state["optimizer"])
        progress(f"going on from step {step} of {steps}")
    metrics = run_folder.Metrics(settings.out, step)
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    progress(f"{len(data.texts)} rows, {len(data.dev_texts)} dev rows, {steps} steps on {device}, bfloat16: {bfloat16}")

    def keep(name: str) -> None:
        whole = network.state_dict()
        now = {"run": run, "step": step, "best": best, "best_epoch": best_epoch}
        now |= {"network": {key: whole[key] for key in trained}}
        checkpoint.save(
            settings.out / name, now if name == checkpoint.BEST else now | {"optimizer": optimizer.state_dict()}
        )

    saved_at, report = time.monotonic(), _Report()
    for epoch in range(step // epoch_steps, settings.epochs):
        network.train()
        for batch in islice(_epoch(settings, tokenizer, data, epoch), step - epoch * epoch_steps, None):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * _rate(step / steps, settings.warm_up)
            torch.manual_seed(settings.seed * 1_000_003 + step)
            optimizer.zero_grad(set_to_none=True)
            value = _backward(settings, network, batch, device, bfloat16, weights)
            if not math.isfinite(value):
                raise ModelError(
                    f"the loss is {value} at step {step + 1}: lower encoder_rate or head_rate; "
                    f"the last checkpoint in {settings.out} stays"
                )
            nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
            optimizer.step()
            step += 1
            report.add(value, len(batch.topic))
            if step % _REPORT_STEPS == 0:
                mean, rate = report.take()
                metrics.add(step, loss=round(mean, 5), learning_rate=optimizer.param_groups[0]["lr"])
                progress(f"step {step}/{steps}, loss {mean:.3f}, {rate:.0f} texts/s")
            if time.monotonic() - saved_at > settings.checkpoint_s:
                keep(checkpoint.LAST)
                saved_at = time.monotonic()
        scores = _dev_scores(network, settings, data)
        metrics.add(step, **scores)
        progress(f"epoch {epoch + 1}: " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items()))
        if scores["dev"] > best:
            best, best_epoch = scores["dev"], epoch + 1
            keep(checkpoint.BEST)
        keep(checkpoint.LAST)
        if epoch + 1 - best_epoch >= settings.patience:
            progress(f"no better dev score since epoch {best_epoch}: training ends early")
            break
    kept = checkpoint.load(settings.out / checkpoint.BEST, run)
    if kept is not None:
        network.load_state_dict(kept["network"], strict=False)
    network.train(mode=False)


class _Report:
    """Mean loss and speed since the last report."""

    def __init__(self) -> None:
        self._losses: list[float] = []
        self._rows, self._since = 0, time.monotonic()

    def add(self, value: float, rows: int) -> None:
        self._losses.append(value)
        self._rows += rows

    def take(self) -> tuple[float, float]:
        taken = float(np.mean(self._losses)), self._rows / (time.monotonic() - self._since)
        self.__init__()  # type: ignore[misc]
        return taken


def _epoch(settings: TrainSettings, tokenizer: object, data: _Data, epoch: int) -> Iterator[Batch]:
    return training_batches(
        tokenizer,  # type: ignore[arg-type]
        data.texts,
        data.targets,
        settings.batch_size,
        np.random.default_rng([settings.seed, epoch]),
        perturbed=settings.perturbed,
        masked=settings.masked_words,
    )


def _backward(
    settings: TrainSettings,
    network: Network,
    batch: Batch,
    device: torch.device,
    bfloat16: bool,
    weights: tuple[Tensor | None, Tensor | None],
) -> float:
    """Add the batch's gradient, in as many parts as memory asks for; returns its loss."""
    parts = settings.accumulate
    while True:
        try:
            total = 0.0
            for rows in torch.arange(len(batch.topic)).chunk(parts):
                part = Batch(*(tensor[rows].to(device) for tensor in batch))
                with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                    logits = network(part.input_ids, part.attention_mask)
                value = loss(
                    logits,
                    part,
                    smoothing=settings.label_smoothing,
                    taught_share=settings.taught_share,
                    sentiment_weight=weights[0],
                    topic_weight=weights[1],
                ) * (len(rows) / len(batch.topic))
                value.backward()  # type: ignore[no-untyped-call]
                total += value.item()
            return total
        except torch.OutOfMemoryError as exc:
            if parts >= len(batch.topic):
                raise ModelError(f"{device} has no memory for a single text of a batch: lower max_tokens") from exc
            parts *= 2
            log.warning("no memory on %s: the batch of %d is computed in %d parts", device, len(batch.topic), parts)
            for parameter in network.parameters():
                parameter.grad = None
            if device.type == "cuda":
                torch.cuda.empty_cache()


def _class_weights(
    settings: TrainSettings, network: Network, targets: Targets, device: torch.device
) -> tuple[Tensor | None, Tensor | None]:
    if not settings.class_weight_power:
        return None, None
    pairs = (
        (targets.sentiment, len(network.config.sentiment_labels)),
        (targets.topic, len(network.config.topic_labels)),
    )
    first, second = (
        class_weights(torch.from_numpy(target), labels, settings.class_weight_power).to(device)
        for target, labels in pairs
    )
    return first, second


def _rate(done: float, warm_up: float) -> float:
    """The share of the peak learning rate when `done` of the steps are: linear up, then linear down to 0."""
    return done / warm_up if done < warm_up else (1 - done) / (1 - warm_up)


def _optimizer(network: Network, settings: TrainSettings) -> torch.optim.AdamW:
    """Two learning rates; no decay on biases, norms and embeddings (rows of words never seen stay as they were)."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            rate = settings.encoder_rate if name.startswith("encoder.") else settings.head_rate
            decay = settings.weight_decay if parameter.ndim > 1 and "embeddings" not in name else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()], fused=True
    )


@torch.inference_mode()
def predict(network: Network, settings: TrainSettings, texts: list[str]) -> Logits:
    """Logits of the texts, in their order, on the CPU."""
    network.train(mode=False)
    device = next(network.parameters()).device
    tokenizer = load_tokenizer(encoder_folder(settings.encoder, settings.encoder_name), settings.max_tokens)
    config = network.config
    sentiment = torch.empty(len(texts), len(config.conventions), len(config.sentiment_labels))
    topic = torch.empty(len(texts), len(config.topic_labels))
    for rows, ids, mask in plain_batches(tokenise(tokenizer, texts), 64):
        with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device.type)):
            logits = network(ids.to(device), mask.to(device))
        sentiment[rows], topic[rows] = logits.sentiment.float().cpu(), logits.topic.float().cpu()
    return Logits(sentiment, topic)


def _dev_scores(network: Network, settings: TrainSettings, data: _Data) -> dict[str, float]:
    """Macro F1 of each head on the dev rows it has labels for, and `dev`, their mean."""
    from sklearn.metrics import f1_score

    logits = predict(network, settings, data.dev_texts)
    scores = {}
    for place, name in enumerate([*network.config.conventions, "topic"]):
        target = data.dev_targets.topic if name == "topic" else data.dev_targets.sentiment[:, place]
        own = logits.topic if name == "topic" else logits.sentiment[:, place]
        rows = target != UNLABELLED
        if rows.any():
            scores[name] = round(float(f1_score(target[rows], own.numpy()[rows].argmax(-1), average="macro")), 5)
    return {"dev": round(float(np.mean(list(scores.values()))), 5), **scores}
