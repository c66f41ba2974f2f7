import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.story import story_key


@pytest.mark.parametrize(
    "copy",
    [
        "fed raises RATES by 25 points",
        "Fed raises rates by 25 points!",
        "Fed raises rates by 25 points - Reuters",
        "Fed raises rates by 25 points | The Wall Street Journal",
        "RT @someone: Fed raises rates by 25 points",
        "RT @a: RT @b: Fed raises rates by 25 points https://t.co/abc",
        "Fed raises\u2014rates by \u201c25\u201d points",
    ],
)
def test_copies_share_a_story(copy: str) -> None:
    assert story_key(copy, "anyone") == story_key("Fed raises rates by 25 points", "reuters")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Fed raises rates by 25 points", "Fed raises rates by 50 points"),
        ("Shares of $AAPL fall after earnings", "Shares of $MSFT fall after earnings"),
        ("Stocks close much lower - Dow down 300", "Stocks close much lower - Dow down 400"),
        ("Apple - Microsoft", "Apple - Google"),
    ],
)
def test_different_news_do_not(one: str, other: str) -> None:
    assert story_key(one, "p") != story_key(other, "p")


def test_order_of_cashtags_does_not_matter() -> None:
    assert story_key("$AAPL $MSFT big movers today", "a") == story_key("big movers today $msft $aapl", "b")


def test_a_title_of_two_words_is_a_story_of_its_publisher_only() -> None:
    assert story_key("Market update", "a") != story_key("Market update", "b")
    assert story_key("Market update", "a") == story_key("MARKET UPDATE!", "a")
    assert story_key("\U0001f680\U0001f680", "a") != story_key("\U0001f4c9", "a")


@given(st.text(max_size=300), st.text(max_size=40))
def test_key_is_stable_and_ignores_case(title: str, publisher: str) -> None:
    key = story_key(title, publisher)
    assert len(key) == 32
    assert key == story_key(title, publisher)


@given(st.lists(st.from_regex(r"[a-z]{2,8}", fullmatch=True), min_size=3, max_size=12).map(" ".join))
def test_case_and_punctuation_never_matter(title: str) -> None:
    assert story_key(title, "a") == story_key(f"RT @x: {title.upper().replace(' ', ', ')}!", "b")
