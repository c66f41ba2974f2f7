"""The demo's feed through the shipped model and the detector: it warns of the bank run, and of nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from alerts.judgement import Judgement
from alerts.surge import Detector
from alerts.windows import Count, WindowItem, fold
from ingest.metrics import IngestMetrics
from ingest.settings import ReplaySettings
from ingest.sources.replay import ReplaySource
from model.scorer import Scorer
from model.settings import ModelSettings
from stream.scored import text_of

FEED = Path(__file__).parents[2] / "deploy" / "demo" / "bankrun.jsonl"
RUN_STARTS = datetime(2023, 3, 8, 21, tzinfo=UTC)
SHARES_FALL = datetime(2023, 3, 9, 21, tzinfo=UTC)
BANKS = {"SIVB", "SBNY", "FRC", "SI", "KRE", "PACW", "WAL"}


class Scored(msgspec.Struct, frozen=True):
    item: WindowItem
    retold: bool


@pytest.fixture(scope="module")
def scored() -> list[Scored]:
    source = ReplaySource(ReplaySettings(), FEED, IngestMetrics(CollectorRegistry()))
    documents = [document for fetched in source.run(None, threading.Event()) for document in fetched.documents]
    lines = FEED.read_bytes().splitlines()
    retold = {row["url"] for row in map(msgspec.json.decode, lines) if row["retold"]}
    assert len(documents) == len(lines)
    scorer = Scorer.load(ModelSettings())
    scores = scorer.score([text_of(document) for document in documents])
    negative = scorer.sentiment_labels.index("negative")
    return [
        Scored(
            WindowItem(
                offset=offset,
                id=document.id,
                story=document.story,
                published_at=document.published_at.timestamp(),
                seen_at=document.seen_at.timestamp(),
                sentiment=scorer.sentiment_labels[sentiment.argmax()],
                negative=float(sentiment[negative]),
                topic=scorer.topic_labels[topic.argmax()],
                companies=document.companies,
                publisher=document.publisher,
                source=document.source,
                title=document.title,
                url=document.url,
            ),
            document.url in retold,
        )
        for offset, (document, sentiment, topic) in enumerate(
            zip(documents, scores.sentiment, scores.topic, strict=True)
        )
    ]


@pytest.fixture(scope="module")
def judge() -> Callable[[Sequence[WindowItem]], list[Judgement]]:
    """Goes through the minutes of some items; returns the judgements that a series surges."""

    def run(items: Sequence[WindowItem]) -> list[Judgement]:
        minutes: dict[int, dict[Count, int]] = {}
        for (series, minute, sentiment), count in fold((0, item) for item in items).items():
            minutes.setdefault(minute, {})[series, minute, sentiment] = count
        detector = Detector()
        found = []
        for minute in range(min(minutes), max(minutes) + 1):
            found += [one for one in detector.update(minute, minutes.get(minute, {})) if one.state == "pending"]
        return found

    return run


def test_the_bank_run_surges_before_the_first_day_of_falling_shares_ends(scored, judge):
    surges = [surge for surge in judge([one.item for one in scored]) if surge.minute * 60 < SHARES_FALL.timestamp()]
    assert {"market", "company=SIVB"} <= {surge.series for surge in surges}
    assert min(surge.minute for surge in surges) * 60 >= RUN_STARTS.timestamp()


def test_the_evidence_of_the_first_surge_names_the_banks(scored, judge):
    items = [one.item for one in scored]
    first = min(judge(items), key=lambda surge: surge.minute)
    end = (first.minute + 1) * 60
    negative = [
        item
        for item in items
        if end - first.window_min * 60 <= item.published_at < end and item.sentiment == "negative"
    ]
    about_banks = [item for item in negative if BANKS & set(item.companies)]
    assert len(about_banks) > len(negative) / 2
    assert any("SIVB" in item.companies for item in about_banks)
    assert len({item.publisher for item in about_banks}) >= 2


def test_nothing_surges_when_the_bank_run_is_taken_out(scored, judge):
    assert judge([one.item for one in scored if not one.retold]) == []


def test_the_calm_background_has_an_even_share_of_negative_items(scored):
    calm = [one.item for one in scored if not one.retold]
    days: dict[int, list[bool]] = {}
    for item in calm:
        days.setdefault(int(item.published_at // 86_400), []).append(item.sentiment == "negative")
    shares = [sum(day) / len(day) for day in days.values()]
    assert len(shares) == 10
    assert min(shares) > 0.05
    assert max(shares) < 0.20
