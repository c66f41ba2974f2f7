"""Near copies among an alert's stories: one story in many papers is one story."""

from __future__ import annotations

from collections.abc import Callable

from alerts.copies import different
from alerts.windows import WindowItem

Make = Callable[..., WindowItem]


def test_reprints_with_a_word_changed_are_one_story_whoever_prints_them(item: Make) -> None:
    titles = (
        "Lumen Harbour halts withdrawals after regulator freezes deposits",
        "Lumen Harbour halts withdrawals after regulator freezes some deposits",
        "Update: Lumen Harbour halts withdrawals after regulator freezes deposits",
        "Depositors queue at branches of Lumen Harbour in three cities",
    )
    items = [item(number, title=title, publisher=f"P{number}") for number, title in enumerate(titles)]
    assert [each.offset for each in different(items)] == [0, 3]


def test_short_headlines_and_the_501st_are_not_taken_for_copies(item: Make) -> None:
    assert len(different(item(number, title="Market update") for number in range(20))) == 20
    title = "Lumen Harbour halts withdrawals after regulator freezes deposits"
    assert len(different(item(number, title=title, seen_at=1e9 + number) for number in range(510))) == 11
    assert different([]) == []


def test_lists_of_tags_are_no_stories_whatever_they_name(item: Make) -> None:
    titles = [
        f"{name} 52Wk Low ${name} $AAPL $FB $NFLX #{name} #stock #invest" for name in ("WMT", "JNJ", "GE", "JBLU")
    ]
    titles.append("Social media stocks sink: $TWTR -7%, $FB -4.4%, $LNKD -7.5%, $ZNGA -5% after a report on valuations")
    items = [item(number, title=title, publisher=f"P{number}") for number, title in enumerate(titles)]
    assert [each.offset for each in different(items)] == [4]
