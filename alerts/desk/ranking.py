"""Each analyst's order of the alerts, learnt from what they opened, acknowledged and dismissed.

`nq:{desk}:acts:<name>` holds the last 500 alerts that somebody did something about, each with the strongest thing done
and what the alert was like then, and a number that each change raises. The model, a logistic regression, is made of
it anew when that number changes: two milliseconds, and nothing but plain data is kept.

It orders and hides nothing; before `ranking_after` alerts it does not order either.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from alerts.alert import Alert
from alerts.audit import Entry, append
from alerts.records import UNREADABLE, Moment
from alerts.series import company_of, kind

if TYPE_CHECKING:
    from redis import Redis

log = logging.getLogger(__name__)

Deed = Literal["opened", "acknowledged", "dismissed"]
_TARGET: dict[Deed, tuple[bool, float]] = {
    "opened": (True, 0.3),
    "acknowledged": (True, 1.0),
    "dismissed": (False, 1.0),
}
"""What each says of the alert, and how much it weighs: to open one is to look, not to want it."""
_KEPT, _SPARE = 500, 50
_KEEP_S = 90 * 86_400
_MODELS = 200
_RATE, _L2 = 0.3, 1e-3
_REASONS = 3
_COUNT = b"n"


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody did about one alert, and what it was like."""

    deed: Deed
    at: Moment
    features: dict[str, float]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """How likely it is that somebody wants an alert, and what speaks for (+) and against (−) it, the heaviest first."""

    score: float
    why: tuple[str, ...]


_act = msgspec.json.Decoder(Act)


def features(alert: Alert, topic: str, at: datetime) -> dict[str, float]:
    """Return what an alert is like, by name: all between 0 and about 1, so that weights can be compared.

    >>> from math import isclose
    >>> isclose(_log(9, 100), 0.5, abs_tol=0.01)
    True
    """
    found = {
        "severity critical": float(alert.severity == "critical"),
        "large z": min(max(alert.peak.z, 0.0) / 10, 1.5),
        "many publishers": _log(alert.publishers, 100),
        "age": _log(max((at - alert.started_at).total_seconds(), 0.0) / 3600, 168),
        f"kind {kind(alert.series).replace('_', ' ')}": 1.0,
    }
    if topic:
        found[f"topic {topic[:128]}"] = 1.0
    if company := company_of(alert.series):
        found[f"company {company}"] = 1.0
    return found


class Ranking:
    """Orders alerts for one person at a time. Methods that read or write raise `redis.RedisError`."""

    def __init__(self, redis: Redis, *, on: bool, after: int) -> None:
        """Without `on` nothing is noted or ordered; with fewer than `after` alerts acted on nothing is ordered."""
        self._redis, self._on, self._after = redis, on, after
        self._models: OrderedDict[str, tuple[bytes, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def load(self) -> None:
        """Load the library behind it, which takes a second: better now than when the first list is ordered."""
        if self._on:
            _learn(())

    def note(self, who: str, deed: Deed, alert: Alert, topic: str, at: datetime, entry: Entry | None = None) -> None:
        """Take note of what somebody did; to open an alert changes nothing once they did more about it.

        With it `entry` goes into the audit log, and alone when nothing is to be learnt.
        """
        key = _key(who)
        act = msgspec.json.encode(Act(deed=deed, at=at, features=features(alert, topic, at)))
        if deed != "opened":
            self._write(key, {alert.id: act}, entry)
        elif not self._on or self._redis.hsetnx(key, alert.id, act):
            self._write(key, {}, entry)

    def note_each(self, who: str, deed: Deed, alerts: Iterable[tuple[Alert, str]], at: datetime) -> None:
        """Take note of what somebody did, more than to open them, about several alerts, given with their topics."""
        acts = {
            alert.id: msgspec.json.encode(Act(deed=deed, at=at, features=features(alert, topic, at)))
            for alert, topic in alerts
        }
        if acts:
            self._write(_key(who), acts)

    def _write(self, key: str, acts: Mapping[str, bytes], entry: Entry | None = None) -> None:
        if not self._on and entry is None:
            return
        with self._redis.pipeline(transaction=True) as pipe:
            if entry is not None:
                append(pipe, entry)
            if self._on:
                for alert_id, act in acts.items():
                    pipe.hset(key, alert_id, act)
                pipe.hincrby(key, _COUNT.decode(), 1)
                pipe.expire(key, _KEEP_S)
                pipe.hlen(key)
            answers = pipe.execute()
        if self._on and answers[-1] > _KEPT + _SPARE:
            known, unreadable = self._acts(key)
            oldest = sorted(known, key=lambda id_: known[id_].at)[: max(0, len(known) - _KEPT)]
            self._redis.hdel(key, *unreadable, *oldest)  # of over 550 one is over 500, or cannot be read

    def restore(self, who: str, deed: Deed, alert: Alert, topic: str, at: datetime) -> bool:
        """Put back what somebody did about an alert, unless it is known that they did something; return whether."""
        if not self._on:
            return False
        key, act = _key(who), Act(deed=deed, at=at, features=features(alert, topic, at))
        if not self._redis.hsetnx(key, alert.id, msgspec.json.encode(act)):
            return False
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hincrby(key, _COUNT.decode(), 1)
            pipe.expire(key, _KEEP_S)
            pipe.execute()
        return True

    def acted(self, who: str) -> int:
        """Return how many alerts somebody did something about, of those that are kept."""
        held: Any = self._redis.hlen(_key(who))
        return max(0, int(held) - 1)

    def places(self, who: str, alerts: Iterable[tuple[Alert, str]], at: datetime) -> list[Place] | None:
        """Return the place of each alert, given with its topic; None when nothing is to be ordered for them."""
        model = self._model(who) if self._on else None
        return None if model is None else [_place(model, features(alert, topic, at)) for alert, topic in alerts]

    def _model(self, who: str) -> Any:
        """Return the model of what somebody did so far, None when that is too little."""
        key = _key(who)
        number: Any = self._redis.hget(key, _COUNT)
        if number is None:
            return None
        with self._lock:
            held = self._models.get(who)
        if held is None or held[0] != number:
            acts, _ = self._acts(key)
            held = number, _learn(sorted(acts.values(), key=lambda act: act.at)) if len(acts) >= self._after else None
            with self._lock:
                self._models[who] = held
                self._models.move_to_end(who)
                while len(self._models) > _MODELS:
                    self._models.popitem(last=False)
        return held[1]

    def _acts(self, key: str) -> tuple[dict[bytes, Act], list[bytes]]:
        """Return what was done, by alert, and the alerts of which that cannot be read."""
        found: Any = self._redis.hgetall(key)
        acts, unreadable = dict[bytes, Act](), list[bytes]()
        for id_, raw in found.items():
            if id_ == _COUNT:
                continue
            try:
                acts[id_] = _act.decode(raw)
            except UNREADABLE as exc:
                log.error("what somebody did about alert %r cannot be read and is left out (%s)", id_, exc)
                unreadable.append(id_)
        return acts, unreadable


def _learn(acts: Sequence[Act]) -> Any:
    from river import linear_model, optim

    model = linear_model.LogisticRegression(optimizer=optim.SGD(_RATE), l2=_L2, intercept_lr=_RATE)
    for act in acts:
        wanted, weight = _TARGET[act.deed]
        model.learn_one(act.features, wanted, w=weight)
    return model


def _place(model: Any, found: Mapping[str, float]) -> Place:
    weights = model.weights
    parts = {name: weights.get(name, 0.0) * value for name, value in found.items()}
    heavy = sorted((name for name in parts if abs(parts[name]) > 0.05), key=lambda name: -abs(parts[name]))
    why = tuple(f"{'+' if parts[name] > 0 else '−'} {name}" for name in heavy[:_REASONS])
    return Place(score=round(float(model.predict_proba_one(dict(found))[True]), 4), why=why)


def _log(value: float, most: float) -> float:
    return math.log1p(max(value, 0.0)) / math.log1p(most)


def _key(who: str) -> str:
    return f"nq:{{desk}}:acts:{who}"
