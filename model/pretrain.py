"""Continue an encoder on texts without labels, by guessing hidden words.

Sources: Devlin et al. 2018, BERT; Gururangan et al. 2020, Don't Stop Pretraining. The result is a folder with an
encoder's files, which `newsquake train --encoder` starts from. Weights so trained are packed against it, so what uses
them is pointed at that folder too.
"""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from model.allocator import keep_freed_memory
from model.batches import Tokens, plain_batches, tokenise
from model.checkpoint import disk_error, write_whole
from model.device import has_bfloat16, pick_device
from model.encoder import SHA256, encoder_folder, load_encoder, load_tokenizer
from model.errors import ModelError
from model.label_file import read_texts
from model.settings import PretrainSettings

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

_IGNORED = -100  # cross-entropy's default for what is not to be guessed
_REPORT_STEPS = 100


def pretrain(
    settings: PretrainSettings,
    progress: Callable[[str], None] = log.info,
    on_step: Callable[[int, int, float], None] = lambda done, of, loss: None,
) -> Path:
    """Train on the texts and write the encoder; returns its folder (`settings.out`).

    Raises:
        DataError: a file of texts is not as expected.
        ModelError: the encoder cannot be trained so, the loss is no number, or the folder cannot be written.
    """
    keep_freed_memory()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    texts = [text for path in settings.texts for text in read_texts(path).texts]
    if not texts:
        raise ModelError("no texts to learn from: name files by --texts")
    source = encoder_folder(settings.encoder, settings.encoder_name)
    shape, encoder = load_encoder(source, "" if settings.encoder else SHA256.get(settings.encoder_name, ""))
    torch.manual_seed(settings.seed)
    network = _masked_lm(shape, encoder, settings)
    tokens = tokenise(load_tokenizer(source, settings.max_tokens), texts)
    if tokens.mask_id < 0:
        raise ModelError(f"the tokenizer in {source} has no mask token: words cannot be hidden")
    _fit(network, tokens, settings, progress, on_step)
    weights = {
        name: network.base_model.state_dict()[name] for name in encoder if name in network.base_model.state_dict()
    }
    _write(settings.out, source, weights)
    progress(f"the encoder is in {settings.out}: newsquake train --encoder {settings.out}")
    return settings.out


def _masked_lm(shape: dict[str, object], encoder: dict[str, Tensor], settings: PretrainSettings) -> PreTrainedModel:
    """The encoder with a head that guesses words: its decoder is the word embeddings, its transform is new."""
    from transformers import AutoConfig, AutoModelForMaskedLM

    kind = str(shape["model_type"])
    given = {name: value for name, value in shape.items() if name != "model_type"}
    try:
        network: PreTrainedModel = AutoModelForMaskedLM.from_config(
            AutoConfig.for_model(kind, **given), attn_implementation="eager"
        )
        network.base_model.load_state_dict(encoder, strict=False)
        network.tie_weights()
    except (ValueError, KeyError, RuntimeError) as exc:
        raise ModelError(f"{settings.encoder or settings.encoder_name} cannot guess hidden words: {exc}") from exc
    return network


def _fit(
    network: PreTrainedModel,
    tokens: Tokens,
    settings: PretrainSettings,
    progress: Callable[[str], None],
    on_step: Callable[[int, int, float], None],
) -> None:
    device = torch.device(pick_device("auto"))
    torch.nn.Module.to(network, device)
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.rate, weight_decay=0.01, fused=True)
    steps = settings.epochs * math.ceil(len(tokens.ids) / settings.batch_size)
    progress(f"{len(tokens.ids)} texts, {steps} steps on {device}")
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (0.06 * steps + 1), (steps - step) / steps)
    )
    rng = np.random.default_rng(settings.seed)
    step, losses = 0, []
    for _ in range(settings.epochs):
        batches = list(plain_batches(tokens, settings.batch_size))
        for index in rng.permutation(len(batches)):
            rows, ids, mask = batches[index]
            hidden, wanted = _hide(tokens, rows, ids, settings.masked_words, rng)
            with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device.type)):
                out = network(input_ids=hidden.to(device), attention_mask=mask.to(device), labels=wanted.to(device))
            if not math.isfinite(out.loss.item()):
                raise ModelError(f"the loss is {out.loss.item()} at step {step + 1}: lower rate")
            optimizer.zero_grad(set_to_none=True)
            out.loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            losses.append(out.loss.item())
            on_step(step, steps, losses[-1])
            if step % _REPORT_STEPS == 0 or step == steps:
                progress(f"step {step}/{steps}, loss {np.mean(losses):.3f}")
                losses = []


def _hide(
    tokens: Tokens, rows: np.ndarray, ids: Tensor, share: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Inputs with some words hidden, and what is to be guessed: of those, a tenth stay and a tenth are others."""
    hidden, wanted = ids.clone(), torch.full_like(ids, _IGNORED)
    for line, row in enumerate(rows):
        words = tokens.words[row]
        places = np.flatnonzero((rng.random(len(words) + 1)[words] < share) & (words >= 0))
        if not len(places):  # at least one, or the loss would be no number
            places = np.flatnonzero(words >= 0)[:1]
        wanted[line, places] = ids[line, places]
        chance = rng.random(len(places))
        hidden[line, places[chance < 0.8]] = tokens.mask_id
        others = places[chance >= 0.9]
        if len(others):
            hidden[line, others] = torch.from_numpy(rng.choice(ids[ids != tokens.pad_id].numpy(), len(others)))
    return hidden, wanted


def _write(folder: Path, source: Path, weights: dict[str, Tensor]) -> None:
    from safetensors.torch import save

    data = save({name: tensor.detach().float().cpu().contiguous() for name, tensor in weights.items()})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("config.json", "tokenizer.json"):
            shutil.copyfile(source / name, folder / name)
    except OSError as exc:
        raise disk_error(exc, folder) from exc
    write_whole(folder / "model.safetensors", lambda file: file.write(data))
