"""From settings to a `Scorer`: which weights, which devices, which engine, which precision."""

from __future__ import annotations

import importlib.util
import logging
import os
from typing import TYPE_CHECKING

import torch

from model.device import has_bfloat16, pick_device
from model.encoder import encoder_folder, load_tokenizer
from model.engine import Engine, TorchEngine, cpu_precision, openvino_engines
from model.errors import ModelError
from model.identity import CONFIG, fingerprint_of, weights_folder
from model.scorer import Scorer
from model.settings import ModelSettings
from model.weights import unpack

if TYPE_CHECKING:
    from model.network import Network

log = logging.getLogger(__name__)

_CPU_TOKENS, _GPU_TOKENS = 1_024, 65_536  # padded tokens a batch
_WINDOW_OVERLAP = 16  # tokens that two windows of a long text share
_CPU_LANES = 4  # more streams than this gain nothing and cost memory


def load_scorer(settings: ModelSettings) -> Scorer:
    """See `Scorer.load`."""
    devices = [pick_device(name) for name in settings.device.split(",")]
    on_gpu = devices[0].startswith("cuda")
    if settings.threads:
        torch.set_num_threads(settings.threads)
    weights = weights_folder(settings)
    network, version = unpack(weights, settings.encoder)
    config = network.config
    max_tokens = settings.max_tokens or config.max_tokens
    folder = encoder_folder(settings.encoder, config.encoder_name)
    tokenizer = load_tokenizer(folder, max_tokens, overlap=min(_WINDOW_OVERLAP, max_tokens // 4))
    engines: list[Engine] = []
    for device in devices:
        engines += _engines(settings, network, device)
    labels, sentiment = config.sentiment_labels, None
    if settings.sentiment_model:
        from model.plain_sentiment import load_plain_sentiment

        labels, sentiment = load_plain_sentiment(settings.sentiment_model, settings.sentiment_names, devices[0])
        version = f"{version}, sentiment by {settings.sentiment_model}"
    return Scorer(
        engines,
        tokenizer,
        version=version,
        fingerprint=fingerprint_of(version, (weights / CONFIG).read_bytes(), max_tokens),
        device=settings.device if len(devices) > 1 else devices[0],
        token_budget=settings.token_budget or (_GPU_TOKENS if on_gpu else _CPU_TOKENS),
        sentiment_labels=labels,
        topic_labels=config.topic_labels,
        pad_id=config.encoder.get("pad_token_id") or 0,
        sentiment=sentiment,
    )


def _engines(settings: ModelSettings, network: Network, device: str) -> list[Engine]:
    """The lanes of one device."""
    if device.startswith("cuda"):
        bfloat16 = settings.precision in ("auto", "bfloat16") and has_bfloat16("cuda")
        return [_torch(network, device, bfloat16=bfloat16) for _ in range(settings.replicas or 1)]
    cores = settings.threads or len(os.sched_getaffinity(0))
    backend = settings.backend
    if backend == "auto":
        backend = "openvino" if importlib.util.find_spec("openvino") else "torch"
        if backend == "torch":
            log.info("openvino is not installed, so torch computes: pip install 'newsquake[model]' for twice the speed")
    if backend == "torch":
        if settings.precision == "int8":
            raise ModelError("precision int8 needs the backend openvino: pip install 'newsquake[model]'")
        bfloat16 = settings.precision == "bfloat16" or (settings.precision == "auto" and has_bfloat16("cpu"))
        return [_torch(network, device, bfloat16=bfloat16)]
    precision = cpu_precision() if settings.precision == "auto" else settings.precision
    if precision == "int8" and not network.config.weight_bits:
        precision = "bfloat16" if has_bfloat16("cpu") else "float32"  # its weights were not made for 8 bits
    lanes = settings.replicas or min(cores, _CPU_LANES)
    log.info("the network runs in OpenVINO on %d cores, %d lanes, %s", cores, lanes, precision)
    return openvino_engines(network, precision, lanes, settings.threads)


def _torch(network: Network, device: str, *, bfloat16: bool) -> Engine:
    import copy

    log.info("the network runs in torch on %s in %s", device, "bfloat16" if bfloat16 else "float32")
    return TorchEngine(copy.deepcopy(network), device, bfloat16=bfloat16)
