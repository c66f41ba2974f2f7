"""The demo's feed: what the README beside it promises, and what the demo's alert needs."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec
import pytest

FEED = Path(__file__).parents[2] / "deploy" / "demo" / "bankrun.jsonl"
START = datetime(2023, 3, 4, tzinfo=UTC)
RUN_STARTS = datetime(2023, 3, 8, 21, tzinfo=UTC)
END = datetime(2023, 3, 14, tzinfo=UTC)
BANKS = {"SIVB", "SBNY", "FRC", "SI", "KRE"}
# Publishers that exist and whose name a made-up one could be taken for.
REAL_PUBLISHERS = re.compile(
    r"reuters|bloomberg|cnbc|wall street|financial times|guardian|bbc|axios|marketwatch|barron|yahoo|forbes|economist"
    r"|associated press|new york times|benzinga|seeking alpha|coindesk|techcrunch|business wire|globenewswire",
    re.IGNORECASE,
)


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    published_at: Annotated[datetime, msgspec.Meta(tz=True)]
    publisher: Annotated[str, msgspec.Meta(min_length=3, max_length=40)]
    title: Annotated[str, msgspec.Meta(min_length=10, max_length=180)]
    url: Annotated[str, msgspec.Meta(pattern=r"^https://example\.invalid/[a-z0-9/\-]+$")]
    retold: bool
    text: Annotated[str, msgspec.Meta(max_length=400)] = ""

    @property
    def cashtags(self) -> set[str]:
        return set(re.findall(r"\$([A-Z]{1,6})\b", self.title))


@pytest.fixture(scope="module")
def items() -> list[Item]:
    decoder = msgspec.json.Decoder(Item)
    return [decoder.decode(line) for line in FEED.read_bytes().splitlines()]


def test_the_file_stays_small():
    assert FEED.stat().st_size < 1_500_000


def test_enough_items_of_both_kinds_and_publishers(items):
    retold = [item for item in items if item.retold]
    assert len(retold) >= 300
    assert len(items) - len(retold) >= 1_500
    assert len({item.publisher for item in items}) >= 12
    assert len({item.publisher for item in retold}) >= 12


def test_items_are_in_order_within_the_ten_days(items):
    times = [item.published_at for item in items]
    assert times == sorted(times)
    assert times[0] >= START
    assert times[-1] < END
    assert all(time.utcoffset() == timedelta(0) for time in times)


def test_the_run_begins_on_the_evening_of_8_march_and_peaks_later(items):
    days = Counter(item.published_at.day for item in items if item.retold)
    assert min(item.published_at for item in items if item.retold) >= RUN_STARTS
    assert 10 <= days[8] < min(days[9], days[10], days[12], days[13])


def test_no_url_comes_twice(items):
    assert not [url for url, times in Counter(item.url for item in items).items() if times > 1]


def test_each_title_names_a_company_by_cashtag(items):
    assert not [item.title for item in items if not item.cashtags]


def test_the_retold_items_are_about_the_banks(items):
    retold = [item for item in items if item.retold]
    assert sum(bool(item.cashtags & BANKS) for item in retold) > 0.8 * len(retold)
    assert sum("SIVB" in item.cashtags for item in retold) >= 150


def test_the_banks_have_a_history_before_the_run(items):
    before = [item for item in items if item.published_at < RUN_STARTS and item.cashtags & BANKS]
    assert len(before) >= 40
    assert all(sum(bank in item.cashtags for item in before) >= 8 for bank in BANKS)
    assert not [item.title for item in before if item.retold]


def test_after_the_run_began_every_item_on_the_banks_is_marked_as_retold(items):
    later = [item for item in items if item.published_at >= RUN_STARTS and item.cashtags & BANKS]
    assert not [item.title for item in later if not item.retold]


def test_the_background_is_about_many_companies_none_of_them_dominant(items):
    background = [item for item in items if not item.retold and not item.cashtags & BANKS]
    companies = Counter(tag for item in background for tag in item.cashtags)
    assert len(companies) >= 80
    assert max(companies.values()) < 0.03 * len(background)


def test_publishers_are_made_up(items):
    assert not {item.publisher for item in items if REAL_PUBLISHERS.search(item.publisher)}


def test_a_title_comes_again_only_as_another_publishers_reprint_of_the_run(items):
    first: dict[str, Item] = {}
    reprints = []
    for item in items:
        earlier = first.setdefault(item.title.casefold(), item)
        if earlier is not item:
            reprints.append((earlier, item))
    assert 5 <= len(reprints) <= 30
    assert all(early.retold and late.retold and early.publisher != late.publisher for early, late in reprints)
    assert all(late.published_at - early.published_at < timedelta(minutes=15) for early, late in reprints)
