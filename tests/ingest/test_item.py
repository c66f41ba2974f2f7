from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.document import decode, encode
from ingest.item import ItemError, compose

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
ANY_TIME = st.datetimes(timezones=st.none() | st.just(UTC) | st.just(timezone(timedelta(hours=14))))


@given(
    publisher=st.text(max_size=400),
    key=st.text(max_size=60),
    title=st.text(st.characters() | st.sampled_from("<>&$"), max_size=3_000),
    text=st.text(max_size=300),
    url=st.text(max_size=60) | st.just("https://e.com/x"),
    language=st.text(max_size=12) | st.just("en-GB"),
    symbols=st.lists(st.text(max_size=8), max_size=40),
    published_at=ANY_TIME,
    seen_at=ANY_TIME,
)
def test_whatever_goes_in_a_document_that_can_be_read_comes_out_or_a_reason(**fields: object) -> None:
    try:
        document = compose(source="test", **fields)  # type: ignore[arg-type]  # any fields
    except ItemError as exc:
        assert exc.reason in {"empty", "no_id", "bad_time"}
        return
    assert decode(encode(document)) == document
    assert document.published_at <= document.seen_at


def test_time_in_the_future_is_the_time_seen() -> None:
    document = compose(
        source="s", publisher="p", key="k", title="T", published_at=NOW + timedelta(days=400), seen_at=NOW
    )
    assert document.published_at == NOW


def test_without_a_title_the_text_starts_it() -> None:
    document = compose(
        source="s", publisher="p", key="k", title="<p></p>", text="word " * 400, published_at=NOW, seen_at=NOW
    )
    assert document.title == ("word " * 60).strip()
    assert len(document.text) == 1_999
    same = compose(
        source="s", publisher="p", key="k", title="Short", text="<p>Short</p>", published_at=NOW, seen_at=NOW
    )
    assert same.text == ""


def test_nothing_to_say_is_refused_with_a_reason() -> None:
    with pytest.raises(ItemError) as caught:
        compose(source="s", publisher="p", key="k", title="https://t.co/x", published_at=NOW, seen_at=NOW)
    assert caught.value.reason == "empty"
