"""Alerts survive JSON, and their messages stay within the limit of Standard Webhooks."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alerts.alert import Alert, AlertError, Also, decode, encode, message_body
from alerts.evidence import publishers, stories
from alerts.message import decode_message
from alerts.windows import WindowItem


def test_json_and_back(alert: Alert) -> None:
    assert decode(encode(alert)) == alert
    assert decode_message(message_body("alert.firing", alert)).data == alert
    for wrong in (b"", b"{}", b"\xff", b"[" * 100_000):
        with pytest.raises(AlertError):
            decode(wrong)


@given(title=st.text(max_size=400), url=st.text(max_size=1_000), many=st.integers(0, 20), also=st.integers(0, 20))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_message_never_grows_over_the_limit(alert: Alert, title: str, url: str, many: int, also: int) -> None:
    wide = "\U0001f4c9" * (400 - len(title))
    story = msgspec.structs.replace(alert.stories[0], title=title + wide, url=url)
    related = Also(series="company=" + "X" * 128, name="\U0001f4c9" * 128, figures=alert.figures)
    body = message_body("alert.firing", msgspec.structs.replace(alert, stories=(story,) * many, also=(related,) * also))
    assert len(body) < 20_000
    kept = decode_message(body).data
    assert bool(kept.stories) == bool(many)
    assert kept.summary == alert.summary


def test_stories_show_each_publisher_before_a_second_of_one(item: Callable[..., WindowItem]) -> None:
    items = [item(n, publisher="Loud" if n < 5 else f"Other {n}", negative=0.99 - n / 100) for n in range(8)]
    shown = stories(items, 5)
    assert [story.publisher for story in shown] == ["Loud", "Other 5", "Other 6", "Other 7", "Loud"]
    assert [story.title for story in shown][:1] == ["Title 0"]


def test_spelling_makes_no_new_publisher(item: Callable[..., WindowItem]) -> None:
    assert publishers([item(0, publisher="Reuters"), item(1, publisher=" REUTERS ")]) == 1
