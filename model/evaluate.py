"""The run behind `newsquake evaluate`: every text is scored once, and everything is worked out from that."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model.baselines import baselines
from model.errors import DataError
from model.few_shot import FewShot, few_shot
from model.measures import Bin, Interval, Measures, accuracy_gain, calibration, measure
from model.reading import Reader, Reading
from model.robustness import Robustness, robustness
from model.scorer import Scorer
from model.test_sets import Head, Task, read_tasks

if TYPE_CHECKING:
    from model.settings import EvaluateSettings, ModelSettings

log = logging.getLogger(__name__)

_CHUNK = 2_048  # texts between two reports of progress
_MISTAKES = 15
_FEW_SHOT_ROWS = 100

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Part:
    """Scores on some of a set's rows."""

    name: str
    rows: int
    accuracy: float
    macro_f1: float
    ece: float


@dataclass(frozen=True)
class Mistake:
    """A row that the model is sure of and wrong about."""

    text: str
    truth: str
    answer: str
    confidence: float


@dataclass(frozen=True)
class Answers:
    """Scores of one way to answer, on all rows and on those without a near copy in the training rows."""

    all: Measures
    without_copies: Measures | None
    ece: float | None = None  # of what is served, at the fitted temperatures
    ece_by_chance: float | None = None  # if it were calibrated: see `Calibration`
    ece_uncalibrated: float | None = None  # at temperature 1


@dataclass(frozen=True)
class ModelResult:
    """One model on one set."""

    served: Answers
    own_head: Answers | None  # the head that learnt this set's convention, where there is one
    gain: Interval | None  # in accuracy, over the first weights given
    reliability: tuple[Bin, ...]
    reliability_uncalibrated: tuple[Bin, ...]
    by_length: tuple[Part, ...]  # quarters of the rows, by characters
    by_source: tuple[Part, ...]
    mistakes: tuple[Mistake, ...]  # the surest first


@dataclass(frozen=True)
class SetResult:
    """All models and baselines on one set; `models` by version, `baselines` by name."""

    title: str
    protocol: str
    head: Head
    labels: tuple[str, ...]
    rows: int
    near_copies: int
    models: dict[str, ModelResult]
    baselines: dict[str, Answers]


@dataclass(frozen=True)
class Report:
    """What `report.json` holds; `sets` by `<set>.<head>`, `robustness` and `few_shot` by version."""

    created: str
    models: tuple[str, ...]
    settings: dict[str, object]
    sets: dict[str, SetResult]
    robustness: dict[str, Robustness]
    few_shot: dict[str, FewShot] = field(default_factory=dict)


@dataclass(frozen=True)
class _Subject:
    """One model with all that it says of the tasks' texts."""

    scorer: Scorer
    served: dict[str, NDArray[np.float32]]  # by the task's key: (n, the task's labels)
    raw: dict[str, NDArray[np.float32]]
    own: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]  # calibrated, at temperature 1
    pooled: dict[str, NDArray[np.float32]]


def evaluate(settings: EvaluateSettings, models: Sequence[ModelSettings], progress: Progress = log.info) -> Report:
    """Judge the models, one or several, on the same rows.

    Raises:
        DataError: a set is not as expected, or has a label that a model does not know.
        ModelError: a model cannot be loaded or run.
    """
    tasks = read_tasks(settings)
    subjects: dict[str, _Subject] = {}
    robust: dict[str, Robustness] = {}
    for each in models:
        scorer = Scorer.load(each)
        if scorer.version in subjects:
            continue
        known = [task for task in tasks if _knows(scorer, task)]
        if not known:
            raise DataError(
                f"the model {scorer.version} has other labels than our events, and no other set was named: "
                "give a file with its labels"
            )
        subjects[scorer.version] = _subject(scorer, each, known, progress)
        progress(f"{scorer.version}: small changes to {settings.perturbed_texts} texts of each set")
        robust[scorer.version] = robustness(scorer, known, settings.perturbed_texts, settings.seed)
    simple = baselines(tasks, progress) if settings.baselines else {}
    sets = {}
    for task in tasks:
        own = {version: subject for version, subject in subjects.items() if task.key in subject.served}
        if own:
            sets[task.key] = _set_result(settings, task, own, simple.get(task.key, {}))
    curves = {}
    if settings.few_shot:
        task = _few_shot_task(tasks)
        for version, subject in subjects.items():
            if task.key in subject.pooled:
                served = subject.served[task.key].argmax(1)
                curves[version] = few_shot(task, subject.pooled[task.key], served, settings.seed, progress)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return Report(created, tuple(subjects), settings.model_dump(mode="json"), sets, robust, curves)


def _knows(scorer: Scorer, task: Task) -> bool:
    """Whether the model has all labels of the task; raises `DataError` when it has not and a user named the set."""
    labels = _labels(scorer, task.head)
    unknown = [label for label in task.labels if label not in labels]
    if unknown and not task.own:
        raise DataError(
            f"{task.title}: the label {unknown[0]!r} is unknown to the model {scorer.version}, "
            f"which has {', '.join(labels)}"
        )
    if unknown:
        log.info("%s left out: the model %s has no label %r", task.title, scorer.version, unknown[0])
    return not unknown


def _labels(source: Scorer | Reader, head: Head) -> tuple[str, ...]:
    return source.sentiment_labels if head == "sentiment" else source.topic_labels


def _subject(scorer: Scorer, settings: ModelSettings, tasks: Sequence[Task], progress: Progress) -> _Subject:
    """Score and read every text once."""
    texts = list(dict.fromkeys(text for task in tasks for text in task.texts))
    places = {text: place for place, text in enumerate(texts)}
    scores = []
    for start in range(0, len(texts), _CHUNK):
        scores.append(scorer.score(texts[start : start + _CHUNK]))
        progress(f"{scorer.version}: {min(start + _CHUNK, len(texts)):,} of {len(texts):,} texts scored")
    reader = Reader.load(settings)

    def told(done: int) -> None:
        if done == len(texts) or done % _CHUNK == 0:
            progress(f"{scorer.version}: {done:,} of {len(texts):,} texts read head by head")

    reading = reader.read(texts, told)
    subject = _Subject(scorer, {}, {}, {}, {})
    for task in tasks:
        rows = np.array([places[text] for text in task.texts])
        wanted = [_labels(scorer, task.head).index(label) for label in task.labels]
        subject.served[task.key] = np.concatenate([getattr(part, task.head) for part in scores])[rows][:, wanted]
        subject.pooled[task.key] = reading.pooled[rows]
        if task.head == "topic" or settings.sentiment_model is None:
            _read_heads(subject, task, reader, reading, rows)
    return subject


def _read_heads(subject: _Subject, task: Task, reader: Reader, reading: Reading, rows: NDArray[np.int64]) -> None:
    wanted = [_labels(reader, task.head).index(label) for label in task.labels]
    subject.raw[task.key] = getattr(reading, task.head)[rows][:, wanted]
    if task.head == "sentiment" and task.set_name in reader.conventions and len(reader.conventions) > 1:
        place = reader.conventions.index(task.set_name)
        calm, raw = (heads[rows, place][:, wanted] for heads in (reading.heads, reading.raw_heads))
        subject.own[task.key] = calm, raw


def _set_result(
    settings: EvaluateSettings, task: Task, subjects: dict[str, _Subject], simple: dict[str, NDArray[np.int64]]
) -> SetResult:
    first = next(iter(subjects.values())).served[task.key].argmax(1)
    models = {}
    for place, (version, subject) in enumerate(subjects.items()):
        served, raw = subject.served[task.key], subject.raw.get(task.key)
        own = subject.own.get(task.key)
        gain = accuracy_gain(task.truth, first, served.argmax(1), settings.samples, settings.seed) if place else None
        models[version] = ModelResult(
            _answers(settings, task, served, raw),
            _answers(settings, task, *own) if own else None,
            gain,
            calibration(served, task.truth).bins,
            calibration(raw, task.truth).bins if raw is not None else (),
            _by_length(task, served),
            _by_source(task, served),
            _mistakes(task, served),
        )
    return SetResult(
        task.title,
        task.protocol,
        task.head,
        task.labels,
        len(task.truth),
        len(task.copies),
        models,
        {name: _measured(settings, task, guess) for name, guess in simple.items()},
    )


def _answers(
    settings: EvaluateSettings, task: Task, calm: NDArray[np.float32], raw: NDArray[np.float32] | None
) -> Answers:
    found = _measured(settings, task, calm.argmax(1))
    after = calibration(calm, task.truth)
    before = calibration(raw, task.truth).error if raw is not None else None
    return Answers(found.all, found.without_copies, after.error, after.by_chance, before)


def _measured(settings: EvaluateSettings, task: Task, guess: NDArray[np.int64]) -> Answers:
    rows = task.alone
    return Answers(
        measure(task.truth, guess, task.labels, settings.samples, settings.seed),
        measure(task.truth[rows], guess[rows], task.labels, settings.samples, settings.seed)
        if task.copies and len(rows)
        else None,
    )


def _by_length(task: Task, served: NDArray[np.float32]) -> tuple[Part, ...]:
    lengths = np.array([len(text) for text in task.texts])
    order = np.argsort(lengths, kind="stable")
    return tuple(
        _part(f"{lengths[rows[0]]} to {lengths[rows[-1]]} characters", task, served, rows)
        for rows in np.array_split(order, 4)
        if len(rows)
    )


def _by_source(task: Task, served: NDArray[np.float32]) -> tuple[Part, ...]:
    groups = np.array(task.groups, dtype=object)
    return tuple(
        _part(str(name) or "none named", task, served, np.flatnonzero(groups == name))
        for name in sorted(set(task.groups))
    )


def _part(name: str, task: Task, served: NDArray[np.float32], rows: NDArray[np.int64]) -> Part:
    found = measure(task.truth[rows], served[rows].argmax(1), task.labels, samples=1)
    error = calibration(served[rows], task.truth[rows]).error
    return Part(name, len(rows), found.accuracy.value, found.macro_f1.value, error)


def _mistakes(task: Task, served: NDArray[np.float32]) -> tuple[Mistake, ...]:
    guess, confidence = served.argmax(1), served.max(1)
    wrong = np.flatnonzero(guess != task.truth)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:_MISTAKES]
    return tuple(
        Mistake(task.texts[i], task.labels[task.truth[i]], task.labels[guess[i]], float(confidence[i])) for i in worst
    )


def _few_shot_task(tasks: Sequence[Task]) -> Task:
    """PhraseBank, else the test part of our events: no weights that ship were trained on either."""
    for name in ("phrasebank.sentiment", "events.sentiment"):
        for task in tasks:
            if task.key == name and len(task.truth) >= _FEW_SHOT_ROWS:
                return task
    raise DataError(f"the few-shot curve needs a set with {_FEW_SHOT_ROWS} rows: give PhraseBank")
