"""Puts back what analysts said, and what their lists are ordered by, when Redis has lost it.

Verdicts and corrections are Kafka's topic `feedback`; who acknowledged what stands in the alerts, which must be back
before. What Kafka never had is gone: who opened an alert, or dismissed it without calling it false.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from alerts.desk.ranking import Deed, Ranking
from alerts.feedback import KEEP, Feedback, Said, decode_said, topic_of
from alerts.life import SYSTEM
from alerts.publish import KafkaPlace
from alerts.rebuild import last_values
from alerts.store import AlertStore

if TYPE_CHECKING:
    from redis import Redis

log = logging.getLogger(__name__)

_ALL = 1_000_000


class RebuiltFeedback(NamedTuple):
    """How many words and deeds were put back, and how many records were no words."""

    words: int
    acts: int
    unreadable: int


class FeedbackRebuild(NamedTuple):
    """Whence it comes; `ranking` says whether lists are ordered at all."""

    place: KafkaPlace
    ranking: bool

    def run(self, redis: Redis) -> RebuiltFeedback:
        """Put back the words of the last 90 days that Redis lacks, and deeds of which it knows nothing.

        Raises:
            RebuildError: the topic could not be read.
            redis.RedisError: the server failed. Calling it again goes on from there.
        """
        feedback, oldest = Feedback(redis), datetime.now(UTC) - KEEP
        words, unreadable = _words(last_values(self.place))
        for word in feedback.unsent():  # they came after what Kafka has
            words[word.thing] = word
        stand = [word for word in words.values() if not word.taken_back and word.at > oldest]
        put_back = sum(feedback.restore(word) for word in stand)
        acts = _acts(redis, stand) if self.ranking else 0
        return RebuiltFeedback(put_back, acts, unreadable)


def _words(records: dict[str, bytes]) -> tuple[dict[str, Said], int]:
    words, unreadable = dict[str, Said](), 0
    for key, value in records.items():
        try:
            word = decode_said(value)
        except msgspec.MsgspecError as exc:
            unreadable += 1
            log.warning("record %.60r of what analysts said cannot be read and is left out: %s", key, exc)
        else:
            words[word.thing] = word
    return words, unreadable


def _acts(redis: Redis, words: list[Said]) -> int:
    """Put back who acknowledged alerts, and who called them useful or false; of one alert the last counts."""
    ranking = Ranking(redis, on=True, after=1)
    views = {view.alert.id: view for view in AlertStore(redis).views(open=False, limit=_ALL)}
    done = dict[tuple[str, str], tuple[datetime, Deed]]()
    for view in views.values():
        for step in view.transitions:
            if step.event == "acknowledged" and step.actor != SYSTEM:
                done[step.actor, view.alert.id] = step.at, "acknowledged"
    for word in words:
        if word.about == "alert" and word.alert in views:
            deed: Deed = "acknowledged" if word.value == "useful" else "dismissed"
            key, new = (word.by, word.alert), (word.at, deed)
            done[key] = max(done.get(key, new), new)
    return sum(
        ranking.restore(who, deed, views[id_].alert, topic_of(views[id_].alert), at)
        for (who, id_), (at, deed) in done.items()
    )
