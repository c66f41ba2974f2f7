"""Teachers: probabilities for every head on every training text, beside the labels.

Two kinds are mixed: networks trained before (one or several), and TF-IDF with a linear SVM, which errs in other places
than a network and, judged out of fold, has not learnt the labels by heart.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from model.batches import Targets
from model.data import UNLABELLED, Labelled
from model.device import pick_device
from model.encoder import MINILM, encoder_folder, load_tokenizer, weights_sha256
from model.errors import ModelError
from model.identity import CONFIG
from model.network import NetworkConfig
from model.predict import predict
from model.weights import unpack

log = logging.getLogger(__name__)
_FOLDS = 5
_FEW = 2  # rows of a class a fold; fewer teach a linear model nothing
_REPORT_ROWS = 6_400


@dataclass(frozen=True)
class Soft:
    """A teacher's probabilities for n texts."""

    sentiment: NDArray[np.float32]  # (n, conventions, labels)
    topic: NDArray[np.float32]  # (n, labels)


def taught(
    targets: Targets,
    sets: Sequence[Labelled],
    conventions: Sequence[str],
    networks: Sequence[Soft],
    tfidf_share: float,
    seed: int,
) -> Targets:
    """The targets with the mixed teacher's probabilities; without any teacher, as they are.

    Rows that carry both labels are not taught: such sets, our own events above all, are there to correct what other
    sets make a network believe. TF-IDF learns from the sets that have a head of their own and from the topics. Where
    it is the only teacher, a labelled head gets the label for the rest of the share, and only those sets are taught.
    """
    if not networks and not tfidf_share:
        return targets
    own = np.concatenate([np.full(len(data), data.name in conventions or bool(data.topic_labels)) for data in sets])
    both = np.concatenate([np.full(len(data), data.complete) for data in sets])
    own &= ~both
    sentiment, topic = _from_networks(targets, networks) if networks else _from_labels(targets)
    if tfidf_share:
        tfidf = tfidf_teacher(targets, sets, own, seed)
        sentiment = _mix(sentiment, tfidf.sentiment, own[:, None], tfidf_share)
        topic = _mix(topic, tfidf.topic, own, tfidf_share)
    rows = (~both if networks else own).astype(np.float32)
    return replace(targets, taught=rows, soft_sentiment=sentiment, soft_topic=topic)


def network_teacher(
    folder: Path,
    encoders: Sequence[Path],
    texts: Sequence[str],
    conventions: Sequence[str],
    sentiment_labels: Sequence[str],
    topic_labels: Sequence[str],
    progress: Callable[[str], None] = log.info,
) -> Soft:
    """What the packed weights in the folder say of the texts, calibrated.

    Its encoder is the one of the folders `encoders` that it was trained on, else the one that its `config.json` names.
    Zeros for a head that it does not have.

    Raises:
        ModelError: its encoder is not there, it has none of the heads, or its labels are others.
    """
    config = _config(folder)
    for what, wanted, own in (
        ("sentiment labels", sentiment_labels, config.sentiment_labels),
        ("topic labels", topic_labels, config.topic_labels),
    ):
        if set(wanted) != set(own):
            raise ModelError(f"the teacher in {folder} has the {what} {', '.join(own)}, not {', '.join(wanted)}")
    known = [name for name in conventions if name in config.conventions]
    if not known:
        raise ModelError(
            f"the teacher in {folder} has the heads {', '.join(config.conventions)}, none of {', '.join(conventions)}"
        )
    encoder = next((path for path in encoders if weights_sha256(path) == config.encoder_sha256), None)
    network, version = unpack(folder, encoder)
    tokenizer = load_tokenizer(encoder_folder(encoder, config.encoder_name or MINILM), config.max_tokens)
    nn.Module.to(network, pick_device("auto"))

    def say(done: int) -> None:
        if done % _REPORT_ROWS == 0:
            progress(f"teacher {version}: {done} of {len(texts)} texts")

    progress(f"teacher {version} reads {len(texts)} texts")
    sentiment, topic = network.head_probabilities(predict(network, tokenizer, texts, say))
    sentiment = sentiment[:, :, [config.sentiment_labels.index(name) for name in sentiment_labels]]
    topic = topic[:, [config.topic_labels.index(name) for name in topic_labels]]
    said = np.zeros((len(texts), len(conventions), len(sentiment_labels)), np.float32)
    for name in known:
        said[:, conventions.index(name)] = sentiment[:, config.conventions.index(name)].numpy()
    return Soft(said, topic.numpy())


def _config(folder: Path) -> NetworkConfig:
    try:
        return NetworkConfig.from_json_file(str(folder / CONFIG))
    except (OSError, ValueError, TypeError) as exc:
        raise ModelError(f"no weights in {folder}: {exc}; a teacher is a folder that `newsquake train` wrote") from exc


def tfidf_teacher(targets: Targets, sets: Sequence[Labelled], own: NDArray[np.bool_], seed: int) -> Soft:
    """TF-IDF with a linear SVM for each head: out of fold on the rows it learns from, whole on the others.

    Zeros for a head of which there is too little to learn from.
    """
    texts = np.array([text for data in sets for text in data.texts], dtype=object)
    sentiment = np.stack(
        [
            _tfidf_head(
                texts, np.where(own, targets.sentiment[:, head], UNLABELLED), targets.soft_sentiment.shape[2], seed
            )
            for head in range(targets.sentiment.shape[1])
        ],
        axis=1,
    )
    topic = _tfidf_head(texts, np.where(own, targets.topic, UNLABELLED), targets.soft_topic.shape[1], seed)
    return Soft(sentiment, topic)


def tfidf_svm() -> Any:
    """Words and their pairs, and pieces of 3 to 5 letters, into a linear SVM: the baseline of this field."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.svm import LinearSVC

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, min_df=3)
    return make_pipeline(make_union(words, letters), LinearSVC(C=0.5, random_state=0))


def _tfidf_head(texts: NDArray[Any], target: NDArray[np.int64], labels: int, seed: int) -> NDArray[np.float32]:
    rows = np.flatnonzero(target != UNLABELLED)
    decisions = np.zeros((len(texts), labels))
    if np.count_nonzero(np.bincount(target[rows], minlength=2) >= _FOLDS * _FEW) < 2:
        return decisions.astype(np.float32)
    fold = np.random.default_rng(seed).permutation(np.arange(len(rows)) % _FOLDS)
    others = np.flatnonzero(target == UNLABELLED)
    try:
        for held in range(_FOLDS):
            fitted = tfidf_svm().fit(texts[rows[fold != held]], target[rows[fold != held]])
            decisions[rows[fold == held]] = _decide(fitted, texts[rows[fold == held]], labels)
        if len(others):
            fitted = tfidf_svm().fit(texts[rows], target[rows])
            decisions[others] = _decide(fitted, texts[others], labels)
    except ValueError as exc:  # no word is in several texts, or a fold holds one class alone
        log.info("TF-IDF does not teach: %s", exc)
        return np.zeros((len(texts), labels), np.float32)
    scales = np.geomspace(0.5, 16, 40)
    fits = [np.log(_softmax(decisions[rows] * s)[np.arange(len(rows)), target[rows]] + 1e-9).mean() for s in scales]
    return _softmax(decisions * scales[int(np.argmax(fits))]).astype(np.float32)


def _decide(fitted: Any, texts: NDArray[Any], labels: int) -> NDArray[np.float64]:
    """(n, labels) decisions; a label that the fold did not hold is the least likely."""
    found = fitted.decision_function(texts)
    if found.ndim == 1:  # two classes
        found = np.stack([-found, found], axis=1)
    full = np.full((len(texts), labels), found.min() if found.size else 0.0)
    full[:, fitted.classes_] = found
    return full


def _softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    raised = np.exp(values - values.max(1, keepdims=True))
    return np.asarray(raised / raised.sum(1, keepdims=True))


def _from_networks(targets: Targets, networks: Sequence[Soft]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Their mean; the label where none of them has the head."""
    for soft in networks:
        if soft.sentiment.shape != targets.soft_sentiment.shape or soft.topic.shape != targets.soft_topic.shape:
            raise ModelError("a teacher has other labels than the training sets")
    sentiment, topic = _from_labels(targets)[0], np.asarray(np.stack([soft.topic for soft in networks]).mean(0))
    said = np.stack([soft.sentiment for soft in networks]).sum(0)
    total = said.sum(-1, keepdims=True)  # not all of them have every head
    return np.divide(said, total, out=sentiment, where=total > 0), topic


def _from_labels(targets: Targets) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The labels as probabilities; zeros, for TF-IDF to fill, where there is none."""
    sentiment = (targets.sentiment[:, :, None] == np.arange(targets.soft_sentiment.shape[2])).astype(np.float32)
    return sentiment, (targets.topic[:, None] == np.arange(targets.soft_topic.shape[1])).astype(np.float32)


def _mix(
    given: NDArray[np.float32], tfidf: NDArray[np.float32], asked: NDArray[np.bool_], share: float
) -> NDArray[np.float32]:
    mixed = (1 - share) * given + share * tfidf
    total = mixed.sum(-1, keepdims=True)
    mixed = np.divide(mixed, total, out=mixed, where=total > 0)  # where one of them says nothing, the other alone
    return np.where(asked[..., None], mixed, given).astype(np.float32)
