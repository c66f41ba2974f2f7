"""What simple methods reach on the same rows, trained on the same training rows as the network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.data import UNLABELLED, Labelled
from model.labels import SENTIMENT
from model.lexicon import lexicon
from model.test_sets import Head, Task

MAJORITY, TFIDF, LEXICON = "most frequent label", "TF-IDF + linear SVM", "word list"

Guesses = dict[str, NDArray[np.int64]]  # (n,) places in the task's labels, by the baseline's name


def baselines(tasks: Sequence[Task], progress: Callable[[str], None]) -> dict[str, Guesses]:
    """Answers by the task's key. A baseline that cannot answer a task, as TF-IDF without training rows, is left out.

    A set with training rows of its own is learnt from those alone, which suits a baseline best; the others from all.
    """
    found: dict[str, Guesses] = {task.key: {} for task in tasks}
    for same in _alike(tasks):
        texts, names = _rows(same[0].train, same[0].head)
        common = Counter(names).most_common()
        model = None
        if len(set(names)) > 1:
            progress(f"{TFIDF} learns {same[0].head} from {len(texts)} rows")
            model = tfidf_fit(texts, names)
        for task in same:
            known = [name for name, _ in common if name in task.labels]
            usual = task.labels.index(known[0]) if known else int(np.bincount(task.truth).argmax())
            found[task.key][MAJORITY] = np.full(len(task.truth), usual, np.int64)
            if model is not None and known:
                found[task.key][TFIDF] = tfidf_guess(model, task.texts, task.labels)
            if task.head == "sentiment" and set(SENTIMENT) <= set(task.labels):
                places = np.array([task.labels.index(name) for name in SENTIMENT])
                found[task.key][LEXICON] = places[lexicon(task.texts)]
    return found


def tfidf_fit(texts: Sequence[str], names: Sequence[str]) -> object:
    """A fitted `model.teacher.tfidf_svm`, or `None` when the texts have no two words in common to learn from."""
    from model.teacher import tfidf_svm

    try:
        return tfidf_svm().fit(texts, names)
    except ValueError:  # no word is in enough of the texts
        return None


def tfidf_guess(model: Any, texts: Sequence[str], labels: Sequence[str]) -> NDArray[np.int64]:
    """(n,) places in `labels`, of which the model must know some."""
    classes = [str(name) for name in model.classes_]
    decisions = model.decision_function(texts)
    if decisions.ndim == 1:  # two classes
        decisions = np.stack([-decisions, decisions], axis=1)
    known = [name for name in labels if name in classes]
    best = decisions[:, [classes.index(name) for name in known]].argmax(1)
    places = np.array([labels.index(name) for name in known], np.int64)
    return np.asarray(places[best])


def _alike(tasks: Sequence[Task]) -> Iterator[list[Task]]:
    """The tasks in groups that are learnt from the same sets."""
    groups: dict[tuple[str, tuple[int, ...]], list[Task]] = {}
    for task in tasks:
        groups.setdefault((task.head, tuple(map(id, task.train))), []).append(task)
    yield from groups.values()


def _rows(sets: Sequence[Labelled], head: Head) -> tuple[list[str], list[str]]:
    """Texts and names of their labels."""
    texts, names = [], []
    for data in sets:
        labels = getattr(data, f"{head}_labels")
        for text, target in zip(data.texts, getattr(data, head), strict=True):
            if target != UNLABELLED:
                texts.append(text)
                names.append(labels[target])
    return texts, names
