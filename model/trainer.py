"""The training loop: epochs and steps, dev scores, checkpoints, an early end.

All randomness is seeded by (seed, epoch) and (seed, step), so that a run that was killed and goes on from its
checkpoint ends as if nothing had happened.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from model import checkpoint
from model.batches import Batch, Targets, training_batches
from model.device import has_bfloat16, is_out_of_memory, pick_device
from model.dropout import slice_dropout
from model.errors import ModelError
from model.loss import class_weights, loss
from model.network import Network
from model.predict import dev_scores, predict
from model.run_folder import Metrics
from model.settings import TrainSettings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

log = logging.getLogger(__name__)

_REPORT_STEPS = 100


@dataclass(frozen=True)
class Rows:
    """What the loop reads: rows to learn from and rows to judge by."""

    texts: list[str]
    targets: Targets
    dev_texts: list[str]
    dev_targets: Targets


@dataclass(frozen=True)
class Report:
    """Where a run tells how it goes: lines of text, and after each step (steps done, steps in all, loss)."""

    say: Callable[[str], None] = log.info
    on_step: Callable[[int, int, float], None] = lambda done, of, loss: None


class Trainer:
    """One run of a network over its rows; `fit` leaves the network with its best dev score, in evaluation mode.

    Args:
        settings: The recipe.
        network: To train; its parameters that want no gradient stay as they are.
        tokenizer: Of its encoder.
        rows: To learn from and to judge by.
        run: The fingerprint that a checkpoint must have to be gone on from.
        report: Hears how it goes.
    """

    def __init__(
        self, settings: TrainSettings, network: Network, tokenizer: Tokenizer, rows: Rows, run: str, report: Report
    ) -> None:
        self._settings, self._network, self._tokenizer, self._rows, self._run = settings, network, tokenizer, rows, run
        self._report = report
        self._device = torch.device(pick_device("auto"))
        self._bfloat16 = has_bfloat16(self._device.type)
        nn.Module.to(network, self._device)
        if self._device.type == "cpu":  # the fused attention's backward pass is ten times slower on texts this short
            network.encoder.set_attn_implementation("eager")
            torch.manual_seed(settings.seed)
            slice_dropout(network)
        self._optimizer = _optimizer(network, settings)
        self._peaks = [group["lr"] for group in self._optimizer.param_groups]
        self._sentiment_weight, self._topic_weight = _class_weights(settings, network, rows.targets, self._device)
        self._trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
        self._parts = settings.accumulate
        self._epoch_steps = math.ceil(len(rows.texts) / settings.batch_size)
        self._steps = settings.epochs * self._epoch_steps
        self._step, self._best, self._best_epoch = 0, -1.0, 0
        self._saved_at = time.monotonic()
        self._losses: list[float] = []
        self._seen, self._seen_since = 0, time.monotonic()

    def fit(self) -> None:
        """Train until the last epoch, or until `patience` epochs were no better than the best.

        Raises:
            ModelError: the checkpoint there is of another run, the loss is no number, or memory or disk are full.
        """
        self._go_on()
        self._metrics = Metrics(self._settings.out, self._step, tensorboard=self._settings.tensorboard)
        self._report.say(
            f"{len(self._rows.texts)} rows, {len(self._rows.dev_texts)} dev rows, {self._steps} steps "
            f"on {self._device}, bfloat16: {self._bfloat16}"
        )
        for epoch in range(self._step // self._epoch_steps, self._settings.epochs):
            if epoch - self._best_epoch >= self._settings.patience:
                self._report.say(f"no better dev score since epoch {self._best_epoch}: training ends early")
                break
            self._train_epoch(epoch)
            self._judge(epoch)
        self._metrics.close()
        kept = checkpoint.load(self._settings.out / checkpoint.BEST, self._run)
        if kept is not None:
            self._network.load_state_dict(kept["network"], strict=False)
        self._network.train(mode=False)

    def _go_on(self) -> None:
        """From the last checkpoint, where there is one."""
        state = checkpoint.load(self._settings.out / checkpoint.LAST, self._run)
        if state is None:
            return
        self._step, self._best, self._best_epoch = int(state["step"]), float(state["best"]), int(state["best_epoch"])
        self._network.load_state_dict(state["network"], strict=False)
        self._optimizer.load_state_dict(state["optimizer"])
        self._report.say(f"going on from step {self._step} of {self._steps}")

    def _train_epoch(self, epoch: int) -> None:
        settings = self._settings
        batches = training_batches(
            self._tokenizer,
            self._rows.texts,
            self._rows.targets,
            settings.batch_size,
            np.random.default_rng([settings.seed, epoch]),
            perturbed=settings.perturbed,
            masked=settings.masked_words,
        )
        self._network.train()
        for batch in islice(batches, self._step - epoch * self._epoch_steps, None):
            self._one_step(batch)
            if self._step % _REPORT_STEPS == 0:
                self._tell()
            if time.monotonic() - self._saved_at > settings.checkpoint_s:
                self._keep(checkpoint.LAST)

    def _one_step(self, batch: Batch) -> None:
        settings = self._settings
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * _rate(self._step / self._steps, settings.warm_up)
        torch.manual_seed(settings.seed * 1_000_003 + self._step)
        value = self._backward(batch)
        norm = float(nn.utils.clip_grad_norm_(self._network.parameters(), settings.clip))
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise ModelError(
                f"the loss is {value} and its gradient's norm {norm} at step {self._step + 1}: lower encoder_rate or "
                f"head_rate; the last checkpoint in {settings.out} stays"
            )
        self._optimizer.step()
        self._step += 1
        self._losses.append(value)
        self._seen += len(batch.topic)
        self._report.on_step(self._step, self._steps, value)

    def _backward(self, batch: Batch) -> float:
        """Compute the batch's gradient, in as many parts as memory asks for; returns its loss."""
        while True:
            self._optimizer.zero_grad(set_to_none=True)
            try:
                return self._accumulate(batch)
            except (MemoryError, RuntimeError) as exc:
                if not is_out_of_memory(exc):
                    raise
                if self._parts >= len(batch.topic):
                    raise ModelError(
                        f"{self._device} has no memory for a single text of a batch: lower max_tokens"
                    ) from exc
            self._parts *= 2
            log.warning(
                "no memory on %s: a batch of %d is computed in %d parts from now on (accumulate)",
                self._device,
                len(batch.topic),
                self._parts,
            )
            if self._device.type == "cuda":
                torch.cuda.empty_cache()

    def _accumulate(self, batch: Batch) -> float:
        total = 0.0
        weight = batch.weight.sum().to(self._device)
        for rows in torch.arange(len(batch.topic)).chunk(self._parts):
            part = Batch(*(tensor[rows].to(self._device) for tensor in batch))
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
                logits = self._network(part.input_ids, part.attention_mask)
            value = loss(
                logits,
                part,
                smoothing=self._settings.label_smoothing,
                taught_share=self._settings.taught_share,
                sentiment_weight=self._sentiment_weight,
                topic_weight=self._topic_weight,
                total_weight=weight,
            )
            value.backward()
            total += value.item()
        return total

    def _judge(self, epoch: int) -> None:
        """Dev scores after an epoch; the best network so far is kept."""
        rows = self._rows
        logits = predict(self._network, self._tokenizer, rows.dev_texts)
        scores = dev_scores(logits, rows.dev_targets, self._network.config.conventions)
        self._metrics.add(self._step, **scores)
        self._report.say(f"epoch {epoch + 1}: " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items()))
        if scores["dev"] > self._best:
            self._best, self._best_epoch = scores["dev"], epoch + 1
            self._keep(checkpoint.BEST)
        self._keep(checkpoint.LAST)

    def _keep(self, name: str) -> None:
        whole = self._network.state_dict()
        state: dict[str, Any] = {
            "run": self._run,
            "step": self._step,
            "best": self._best,
            "best_epoch": self._best_epoch,
            "network": {key: whole[key] for key in self._trained},
        }
        if name == checkpoint.LAST:
            state["optimizer"] = self._optimizer.state_dict()
            self._saved_at = time.monotonic()
        checkpoint.save(self._settings.out / name, state)

    def _tell(self) -> None:
        """Mean loss and speed since the last time."""
        mean, rate = float(np.mean(self._losses)), self._seen / (time.monotonic() - self._seen_since)
        self._metrics.add(self._step, loss=round(mean, 5), learning_rate=self._optimizer.param_groups[0]["lr"])
        self._report.say(f"step {self._step}/{self._steps}, loss {mean:.3f}, {rate:.0f} texts/s")
        self._losses, self._seen, self._seen_since = [], 0, time.monotonic()


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
