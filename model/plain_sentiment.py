"""A plain sequence-classification checkpoint (FinBERT, a Chinese BERT) that says the sentiment instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from model.errors import ModelError

_BATCH = 32


def load_plain_sentiment(
    name: str, names: Mapping[str, str], device: str
) -> tuple[list[str], Callable[[Sequence[str]], NDArray[np.float32]]]:
    """The checkpoint's labels, in lower case or as `names` renames them, and a function from texts to probabilities.

    Args:
        name: A folder, or a name on the Hugging Face hub, which is then fetched; weights as safetensors only.
        names: New names by the checkpoint's own, such as `{"LABEL_0": "negative"}`.
        device: A torch device.

    Raises:
        ModelError: there is no such checkpoint, it is no classifier, or `names` names labels it does not have.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model, found = AutoModelForSequenceClassification.from_pretrained(
            name, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError) as exc:
        raise ModelError(f"sentiment_model {name} cannot be loaded: {exc}") from exc
    if found["missing_keys"]:  # transformers would fill them with noise
        raise ModelError(
            f"sentiment_model {name} is no trained classifier: it lacks {', '.join(found['missing_keys'])}"
        )
    own = [str(model.config.id2label[i]) for i in range(model.config.num_labels)]
    unknown = sorted(set(names) - set(own))
    if unknown:
        raise ModelError(f"sentiment_names names {', '.join(unknown)}, but {name} has {', '.join(own)}")
    labels = [names.get(label, label.lower()) for label in own]
    model.eval().to(device)
    limit = min(tokenizer.model_max_length, 512)

    def probabilities(texts: Sequence[str]) -> NDArray[np.float32]:
        found = np.empty((len(texts), len(labels)), np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            batch = tokenizer(
                [texts[i] for i in rows], padding=True, truncation=True, max_length=limit, return_tensors="pt"
            )
            with torch.inference_mode():
                logits = model(**batch.to(device)).logits
            found[rows] = logits.float().softmax(-1).cpu().numpy()
        return found

    return labels, probabilities
