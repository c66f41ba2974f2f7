"""Alerts carry the words that weighed most, and go out without them rather than wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from alerts.alert import Alert, decode, encode, message_body
from alerts.explain import MAX_WORDS, Explainer, Explaining, Words
from alerts.listen import render
from alerts.message import decode_message
from alerts.metrics import AlertsMetrics

Ask = Callable[..., tuple[Explaining, Callable[[str], float]]]


def _plunge(titles: Sequence[str]) -> list[Words]:
    return [[("plunge", 2.345), ("Bank", 0.5)] for _ in titles]


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Lets explainers of a test that hang go on when it ends."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def asking() -> Ask:
    def make(explainer: Explainer, timeout_s: float = 30) -> tuple[Explaining, Callable[[str], float]]:
        registry = CollectorRegistry()
        explaining = Explaining(explainer, timeout_s, AlertsMetrics(registry))

        def count(outcome: str) -> float:
            return registry.get_sample_value("newsquake_alerts_explained_total", {"outcome": outcome}) or 0.0

        return explaining, count

    return make


def test_stories_get_their_words_by_one_question_for_all_alerts(asking: Ask, alert: Alert) -> None:
    asked: list[list[str]] = []

    def explainer(titles: Sequence[str]) -> list[Words]:
        asked.append(list(titles))
        return _plunge(titles)

    explaining, count = asking(explainer)
    done = explaining.explain([alert, msgspec.structs.replace(alert, id="b")])
    assert asked == [["Bank shares plunge"]]
    for each in done:
        assert [story.words for story in each.stories] == [(("plunge", 2.35), ("Bank", 0.5))] * 2
    assert count("explained") == 1
    assert decode(encode(done[0])) == done[0]


def test_what_an_explainer_says_is_bounded(asking: Ask, alert: Alert) -> None:
    explaining, _ = asking(lambda titles: [[("x" * 400, 9.0), *((f"w{n}", 1.0) for n in range(50))] for _ in titles])
    (done,) = explaining.explain([alert])
    assert [word for word, _ in done.stories[0].words] == [f"w{n}" for n in range(MAX_WORDS)]


@pytest.mark.parametrize("wrong", [[], [[("a", 1.0)]] * 9, [[("a", "much")]], [None]])
def test_an_explainer_that_fails_stops_no_alert(asking: Ask, alert: Alert, wrong: object) -> None:
    def explainer(titles: Sequence[str]) -> list[Words]:
        if wrong == []:
            raise RuntimeError("no weights")
        return wrong  # type: ignore[return-value]  # the point of the test

    explaining, count = asking(explainer)
    assert explaining.explain([alert]) == [alert]
    assert count("failed") == 1


def test_a_slow_explainer_holds_alerts_up_no_longer_than_the_limit(
    asking: Ask, alert: Alert, gate: threading.Event
) -> None:
    def explainer(titles: Sequence[str]) -> list[Words]:
        gate.wait(60)
        return _plunge(titles)

    explaining, count = asking(explainer, 0.01)
    assert explaining.explain([alert]) == [alert]
    explaining.renew()
    assert explaining.explain([alert]) == [alert]  # it still works on the first
    assert (count("late"), count("busy"), count("explained")) == (1, 1, 0)


def test_the_limit_is_for_all_questions_until_it_is_renewed(asking: Ask, alert: Alert) -> None:
    release = threading.Event()

    def explainer(titles: Sequence[str]) -> list[Words]:
        release.wait(60)
        return _plunge(titles)

    explaining, count = asking(explainer, 0.01)
    explaining.explain([alert])
    release.set()
    while count("late") < 2:  # "busy" until the first answer, too late, is there
        assert explaining.explain([alert]) == [alert]
        time.sleep(0.001)
    assert count("explained") == 0


def test_the_explainer_is_made_ready_when_a_surge_is_in_sight(asking: Ask, alert: Alert) -> None:
    asked: list[list[str]] = []

    def explainer(titles: Sequence[str]) -> list[Words]:
        asked.append(list(titles))
        time.sleep(0.02)
        return _plunge(titles)

    explaining, count = asking(explainer)
    explaining.prepare()
    explaining.prepare()
    assert explaining.explain([alert])[0].stories[0].words  # which waits for the loading
    assert asked == [[], ["Bank shares plunge"]]
    assert count("explained") == 1


def test_no_stories_no_question(asking: Ask, alert: Alert) -> None:
    explaining, count = asking(lambda _: pytest.fail("asked"))
    assert explaining.explain([msgspec.structs.replace(alert, stories=())])[0].stories == ()
    assert explaining.explain([]) == []
    assert count("explained") + count("failed") == 0


def test_alerts_without_words_of_earlier_versions_are_read(alert: Alert) -> None:
    raw = msgspec.json.decode(encode(alert))
    for story in raw["stories"]:
        del story["words"]
    assert decode(msgspec.json.encode(raw)) == alert


def test_the_heaviest_words_are_marked_in_the_headline(alert: Alert) -> None:
    title = "Bank plunge, $ABC plunges; [red]plunge[/red] \x1b[2J(fall)"
    words = (("plunge", 3.0), ("$ABC", 1.0), ("\x1b[2J(fall", 0.5), ("\u202e", 0.4), ("", 0.3))
    story = msgspec.structs.replace(alert.stories[0], title=title, words=words)
    message = decode_message(message_body("alert.firing", msgspec.structs.replace(alert, stories=(story,))))
    text = render(message)
    lines = text.plain.splitlines()
    assert lines[2] == "  • Bank plunge, $ABC plunges; [red]plunge[/red] [2J(fall)"
    assert lines[3] == "    Daily · 2023-03-09 18:04 UTC · 97% negative: plunge, $ABC, [2J(fall"
    marked = [(text.plain[span.start : span.end], str(span.style)) for span in text.spans if "red" in str(span.style)]
    assert [word for word, style in marked if style == "bold red"] == ["plunge", "plunge"]
    assert {word for word, style in marked if style == "red"} == {"$ABC", "[2J(fall"}
