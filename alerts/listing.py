"""All alerts of the last 90 days, those that fired last first, read a part at a time however many there are."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from alerts.alert import Alert
from alerts.life import AlertView
from alerts.records import name_of
from alerts.store import RECENT, STARTED, AlertStore
from alerts.stored import alert_of, keys_of

if TYPE_CHECKING:
    from redis import Redis

log = logging.getLogger(__name__)

MOST = 10_000
"""Alerts that a search looks through, at most."""
_CHUNK = 500
_MEND_S = 300.0


class Part(NamedTuple):
    """Some alerts, and how many `more` there are behind the last; of those searched for, at least so many."""

    views: list[AlertView]
    more: int


class Listing:
    """Reads parts of the list. Every method raises `redis.RedisError` when the server cannot answer."""

    def __init__(self, redis: Redis, store: AlertStore) -> None:
        self._redis, self._store, self._mended_s = redis, store, -math.inf

    def part(
        self,
        limit: int,
        *,
        after: str = "",
        without: Collection[str] = (),
        fits: Callable[[Alert], bool] | None = None,
    ) -> Part | None:
        """Return the first alerts, or the first behind the one `after`; None when that is not in the list.

        Those in `without` are left out, and all that do not fit.
        """
        self._mend()
        first = 0
        if after:
            place: Any = self._redis.zrevrank(STARTED, after)
            if place is None:
                return None
            first = int(place) + 1
        views, waiting = list[AlertView](), list[str]()
        chunks = self._chunks(first, limit if fits is None else _CHUNK, without, fits)
        while (lacking := limit - len(views)) > 0:
            while len(waiting) < lacking and (chunk := next(chunks, None)) is not None:
                waiting += chunk
            if not waiting:
                return Part(views, 0)
            views += self._store.find(waiting[:lacking]).values()
            waiting = waiting[lacking:]
        if fits is None:
            return Part(views, self._behind(views[-1], without))
        while not waiting and (chunk := next(chunks, None)) is not None:
            waiting = chunk
        return Part(views, len(waiting))

    def _chunks(
        self, first: int, size: int, without: Collection[str], fits: Callable[[Alert], bool] | None
    ) -> Iterator[list[str]]:
        """Yield the ids of alerts from a place in the list on, each once, though others come in before them."""
        known, left = set(without), MOST
        while fits is None or left > 0:
            raws: Any = self._redis.zrevrange(STARTED, first, first + min(size, left) - 1)
            if not raws:
                return
            first += len(raws)
            left -= len(raws) if fits is not None else 0
            ids = [id_ for id_ in map(name_of, raws) if id_ not in known]
            known.update(ids)
            if fits is not None and ids:
                stored: Any = self._redis.mget([keys_of(each)[0] for each in ids])
                alerts = {each: alert_of(each, raw) for each, raw in zip(ids, stored, strict=True)}
                ids = [each for each, alert in alerts.items() if alert is not None and fits(alert)]
            yield ids

    def _behind(self, view: AlertView, without: Collection[str]) -> int:
        """Return how many alerts the list has behind one, without some."""
        left_out = sorted(without)
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.zcard(STARTED)
            pipe.zrevrank(STARTED, view.alert.id)
            if left_out:
                pipe.zmscore(STARTED, left_out)
            count, place, *scores = pipe.execute()
        mine = view.alert.started_at.timestamp(), view.alert.id
        places = zip(scores[0] if scores else (), left_out, strict=True)
        behind = sum(score is not None and (float(score), each) < mine for score, each in places)
        return 0 if place is None else max(0, int(count) - int(place) - 1 - behind)

    def _mend(self) -> None:
        """Have in the list what is kept: versions before had none. Of what cannot be read the place is at its end.

        Of as many as are kept some may be others, where a version before puts in and takes out meanwhile: that is
        looked at now and then.
        """
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.zcard(RECENT)
            pipe.zcard(STARTED)
            kept, listed = pipe.execute()
        if kept == listed and time.monotonic() - self._mended_s < _MEND_S:
            return
        lacking: Any = self._redis.zdiff([RECENT, STARTED])
        gone: Any = self._redis.zdiff([STARTED, RECENT])
        for at in range(0, len(lacking), _CHUNK):
            raws = lacking[at : at + _CHUNK]
            stored: Any = self._redis.mget([keys_of(name_of(each))[0] for each in raws])
            alerts = [alert_of(name_of(each), raw) for each, raw in zip(raws, stored, strict=True)]
            scores = [alert.started_at.timestamp() if alert else 0.0 for alert in alerts]
            self._redis.zadd(STARTED, dict(zip(raws, scores, strict=True)), nx=True)
        if gone:
            self._redis.zrem(STARTED, *gone)
        self._mended_s = time.monotonic()
        if lacking or gone:
            log.info(
                "the list of alerts had not all that are kept: %d were put in, %d taken out", len(lacking), len(gone)
            )
