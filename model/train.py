"""Fine-tuning: an encoder with its heads on all labelled sets at once, on a CPU or a GPU; then calibrated and packed.

A run that was killed goes on from its last checkpoint when it is started again with the same settings.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from model import checkpoint, run_folder
from model.allocator import keep_freed_memory
from model.augment import with_augmented
from model.batches import Targets, hard_targets
from model.calibrate import served_temperature, temperatures
from model.data import UNLABELLED, Labelled
from model.encoder import encoder_folder, load_tokenizer
from model.errors import ModelError
from model.identity import CONFIG, WEIGHTS
from model.low_rank import Factors, layer_moments, low_rank, rounded_by
from model.network import SERVED, Network
from model.predict import dev_scores, held_out_scores, predict
from model.settings import TrainSettings
from model.start import mean_with, start_network
from model.taught import taught_targets
from model.trainer import Report, Rows, Trainer
from model.training_sets import TrainingSets, read_training_sets
from model.weights import pack, unpack, write_config

if TYPE_CHECKING:
    from tokenizers import Tokenizer

log = logging.getLogger(__name__)


def train(
    settings: TrainSettings,
    progress: Callable[[str], None] = log.info,
    on_step: Callable[[int, int, float], None] = lambda done, of, loss: None,
) -> Path:
    """Train, calibrate and pack; returns the folder with the packed weights (`settings.out`).

    Args:
        settings: The recipe, the data, the run folder.
        progress: Hears lines of text.
        on_step: Hears steps done, steps in all and the loss, after each step.

    Raises:
        DataError: a set is not as expected.
        ModelError: the checkpoint there is of another run, the loss is no number, or memory or disk are full.
    """
    try:
        return _train(settings, Report(progress, on_step))
    except OSError as exc:
        raise checkpoint.disk_error(exc, settings.out) from exc


def _train(settings: TrainSettings, report: Report) -> Path:
    started = time.monotonic()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    keep_freed_memory()
    sets = read_training_sets(settings, report.say)
    network, encoder = start_network(settings, sets)
    tokenizer = load_tokenizer(encoder_folder(settings.encoder, settings.encoder_name), settings.max_tokens)
    if settings.augmented:
        sets = with_augmented(sets, tokenizer, encoder, settings.augmented, settings.seed)
    run_folder.describe(settings, sets)
    start = {name: tensor.clone() for name, tensor in network.state_dict().items()} if settings.start_share else {}
    sizes = len(sets.sentiment_labels), len(sets.topic_labels)
    targets = hard_targets(sets.train, sets.conventions, *sizes)
    dev_texts = [text for data in sets.dev for text in data.texts]
    dev_targets = hard_targets(sets.dev, sets.conventions, *sizes)
    run = _fingerprint(settings, sets, network, targets)
    rows = Rows(sets.texts, taught_targets(settings, sets, targets, run, report.say), dev_texts, dev_targets)
    Trainer(settings, network, tokenizer, rows, run, report).fit()
    mean_with(network, start, settings.start_share)

    network, factors = _low_rank(settings, network, encoder, tokenizer, sets, report)
    partial = settings.out / "packing"
    size = pack(network, encoder, partial, factors)
    served, version = unpack(partial, settings.encoder)  # judged and calibrated as it is served: rounded
    logits = predict(served, tokenizer, dev_texts)
    of_its_kind = _of_its_kind(sets.dev, dev_targets, sets.conventions)
    served.config.temperature = temperatures(logits, of_its_kind, served.config.conventions)
    served.config.temperature[SERVED] = served_temperature(served, logits, of_its_kind)
    write_config(served.config, partial)
    for name in (WEIGHTS, CONFIG):
        (partial / name).replace(settings.out / name)
    rmtree(partial)
    scores = dev_scores(logits, dev_targets, served.config.conventions)
    tested = {}
    if sets.test:
        logits = predict(served, tokenizer, [text for data in sets.test for text in data.texts])
        tested = held_out_scores(logits, hard_targets(sets.test, sets.conventions, *sizes), served.config.conventions)
        report.say("on the test rows: " + ", ".join(f"{name} {value:.4f}" for name, value in tested.items()))
    minutes = (time.monotonic() - started) / 60
    run_folder.conclude(settings.out, version, scores, tested, served.config.temperature, minutes)
    report.say("packed, on the dev rows: " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items()))
    report.say(f"temperatures: {served.config.temperature}")
    report.say(f"{version} packed into {settings.out}: {size / 1e6:.1f} MB; {minutes:.1f} minutes")
    return settings.out


def _low_rank(
    settings: TrainSettings,
    network: Network,
    encoder: Mapping[str, Tensor],
    tokenizer: Tokenizer,
    sets: TrainingSets,
    report: Report,
) -> tuple[Network, dict[str, Factors] | None]:
    """The network as it is packed, and the low-rank factors it differs by from the encoder; `None`: packed whole."""
    factors = None
    if settings.adapter_rank:
        from model.adapters import to_pack

        network, factors = to_pack(network, encoder, settings.start, settings.encoder)
    if not (factors or settings.packed_rank):
        return network, None
    report.say("packing: finding what the loss needs most")
    moments = layer_moments(network, tokenizer, sets.texts, settings.seed, min(32, settings.batch_size))
    nn.Module.to(network, "cpu")
    if factors:
        return network, rounded_by(factors, moments)
    return network, low_rank(network, encoder, moments, settings.packed_rank)


def _of_its_kind(sets: Sequence[Labelled], targets: Targets, conventions: Sequence[str]) -> Targets:
    """The targets that calibrate each head: of the texts it was made for, where there are such.

    Sets that carry both labels train heads that were not made for their texts, on which these are less often right.
    """
    complete = np.concatenate([np.full(len(data), data.complete) for data in sets])
    if complete.all():
        return targets
    other = np.concatenate([np.full(len(data), data.complete and data.name not in conventions) for data in sets])
    sentiment = np.where(other[:, None], UNLABELLED, targets.sentiment)
    return replace(targets, sentiment=sentiment, topic=np.where(complete, UNLABELLED, targets.topic))


def _fingerprint(settings: TrainSettings, sets: TrainingSets, network: Network, targets: Targets) -> str:
    """See `checkpoint.fingerprint`."""
    weights = [*settings.teachers, *([settings.start] if settings.start else [])]
    files = [network.config.encoder_sha256]
    for folder in weights:
        for name in (CONFIG, WEIGHTS):
            try:
                files.append(hashlib.sha256((folder / name).read_bytes()).hexdigest())
            except OSError as exc:
                raise ModelError(f"no weights in {folder}: {exc}; name a folder that `newsquake train` wrote") from exc
    return checkpoint.fingerprint(settings, sets.texts, targets, files)
