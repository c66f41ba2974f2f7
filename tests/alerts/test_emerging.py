"""Themes: found from a handful of stories on words that no list holds, once each, and neither by copies nor seasons."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.emerging import Emerging, ThemesSnapshotError
from alerts.episodes import MOST_STORIES, Episode, Episodes, Theme
from alerts.evidence import published_by, publishers
from alerts.memory import Memory
from alerts.settings import ThemesSettings
from alerts.terms import MAX_TERMS, is_name, phrase, terms
from alerts.windows import WindowItem

DAY = 1_440
START = 19_358 * DAY
Make = Callable[..., WindowItem]
Planted = tuple[int, str, str]
"""Minute, publisher, title."""

RUN = (
    "Depositors queue at Lumen Harbour after rumours",
    "Regulator examines Lumen Harbour books",
    "Lumen Harbour bonds lose half their value",
    "Why Lumen Harbour could not find a buyer",
    "Mayor asks Lumen Harbour for an explanation",
)


def _word(rng: random.Random) -> str:
    return "".join(rng.choice("bdfgklmnprstv") + rng.choice("aeiou") for _ in range(3))


class Stream:
    """A market of 180 items a day, 15 % of them negative, on 800 words; stories are planted in it."""

    def __init__(self, item: Make, seed: int = 1) -> None:
        self._item = item
        self._rng = random.Random(seed)
        self._words = [_word(self._rng) for _ in range(800)]
        self._offset = 0

    def days(
        self, first: int, last: int, planted: Iterable[Planted] = (), factor: float = 1, bad: float = 0.15
    ) -> list[tuple[int, int, int, list[WindowItem]]]:
        """What `Emerging.update` takes, each half hour from day `first` up to day `last`."""
        stories = list(planted)
        steps = []
        for minute in range(START + first * DAY, START + last * DAY, 30):
            number = int(3.75 * factor + self._rng.random())
            negatives = sum(self._rng.random() < bad for _ in range(number))
            listed = [(f"Paper {self._rng.randrange(5)}", self._title()) for _ in range(negatives)]
            listed += [(publisher, title) for at, publisher, title in stories if minute - 30 < at + START <= minute]
            items = [self._made(minute, *story) for story in listed]
            steps.append((minute, number + len(items) - negatives, len(items), items))
        return steps

    def _title(self) -> str:
        return " ".join(self._rng.choice(self._words) for _ in range(7)).capitalize()

    def _made(self, minute: int, publisher: str, title: str) -> WindowItem:
        self._offset += 1
        return self._item(self._offset, seen_at=minute * 60.0, publisher=publisher, title=title)


@pytest.fixture
def stream(item: Make) -> Stream:
    """A market."""
    return Stream(item)


def _feed(emerging: Emerging, steps: Iterable[tuple[int, int, int, list[WindowItem]]]) -> list[Theme]:
    return [theme for step in steps for theme in emerging.update(*step)]


def _peak() -> Theme:
    return Theme(
        event="opened", phrase="Lumen Harbour", minute=START, opened=START, window_min=DAY, observed=3, expected=0.02,
        low=0, high=0, p_value=1e-7, z=5.0, share=1e-4, history=0.0, copies=0, items=(),
    )  # fmt: skip


def _run(day: float, titles: Sequence[str] = RUN, publishers: int = 2) -> list[Planted]:
    return [(int(day * DAY) + 90 * n, f"Daily {n % publishers}", title) for n, title in enumerate(titles)]


def test_a_phrase_never_seen_is_found_at_the_third_story_and_told_once(stream: Stream) -> None:
    opened, closed = _feed(Emerging(), stream.days(0, 65, _run(60.3)))
    assert (opened.event, opened.phrase, opened.observed) == ("opened", "Lumen Harbour", 3)
    assert [item.title for item in opened.items] == list(RUN[:3])
    assert opened.expected < 0.05
    assert opened.p_value < 2e-5
    assert (closed.event, closed.phrase, closed.opened) == ("closed", "Lumen Harbour", opened.minute)
    assert closed.observed == 5
    assert DAY <= closed.minute - (START + int(60.3 * DAY) + 360) <= DAY + 60


@pytest.mark.parametrize(
    ("titles", "publishers"),
    [
        (RUN, 1),  # one publisher
        (RUN[:2], 2),  # two stories
        ([f"{RUN[0]} - {n}" for n in range(8)], 4),  # one story and its reprints
        ([f"{title} in August" for title in ("Dull sales", "Poor jobs", "Weak orders", "Sharply lower profit")], 4),
    ],
)
def test_what_is_no_theme(stream: Stream, titles: Sequence[str], publishers: int) -> None:
    assert _feed(Emerging(), stream.days(0, 63, _run(60.3, titles, publishers))) == []


def test_lists_of_tags_are_no_theme_and_do_not_hide_one(stream: Stream) -> None:
    names = ("Bolt Inc.", "Cask Corp.", "Dorn & Co.", "Elm Holdings", "Fenn plc", "Gale Group")
    spam = [f"{name} 52Wk Low Click Here -> Trending $B{n} $FB $AAPL #stock #invest" for n, name in enumerate("ABCDEF")]
    spam = [title.replace(letter, name, 1) for title, letter, name in zip(spam, "ABCDEF", names, strict=True)]
    assert _feed(Emerging(), stream.days(0, 63, _run(60.3, spam, 4))) == []
    tagged = [f"{title} $LMN $KRE" for title in RUN]
    (opened, _) = _feed(Emerging(), stream.days(63, 128, [*_run(123.3, tagged), *_run(123.3, spam, 4)]))
    assert opened.phrase == "Lumen Harbour"


def test_three_items_a_day_are_enough(item: Make) -> None:
    found = []
    for seed in range(8):
        themes = _feed(Emerging(), Stream(item, seed).days(0, 120, _run(100.3, RUN[:3]), factor=1 / 60))
        found.append([(theme.phrase, theme.observed) for theme in themes if theme.event == "opened"])
    assert found.count([("Lumen Harbour", 3)]) >= 7
    assert all(each in ([], [("Lumen Harbour", 3)]) for each in found)


def test_a_common_word_needs_more_than_a_name(stream: Stream, item: Make) -> None:
    rest = [tuple(_word(random.Random(n * 10 + m)) for m in range(6)) for n in range(12)]
    small = [f"{a} {b} {c} flood {d} {e} {f}" for a, b, c, d, e, f in rest]
    names = [title.replace("flood", "Silvergate") for title in small]
    found = {}
    for kind, titles in (("small", small), ("names", names)):
        themes = _feed(Emerging(), Stream(item).days(0, 63, _run(60.3, titles)))
        found[kind] = themes[0].observed
        assert themes[0].phrase in ("flood", "Silvergate")
    assert found["names"] == 3 < found["small"]


def test_little_history_finds_nothing(stream: Stream) -> None:
    assert _feed(Emerging(), stream.days(0, 2, _run(0.5))) == []


def test_a_day_on_which_everything_is_bad_or_busy_is_no_theme(stream: Stream) -> None:
    emerging = Emerging()
    assert _feed(emerging, stream.days(0, 60)) == []
    assert _feed(emerging, stream.days(60, 61, factor=5)) == []
    assert _feed(emerging, stream.days(61, 62, bad=0.8)) == []


def test_two_names_for_one_event_are_one_theme(stream: Stream) -> None:
    other = [f"{title.replace('Lumen Harbour', 'Pell Ostrom, founder of Lumen Harbour,')}" for title in RUN]
    alone = ["Pell Ostrom resigns", "Villa searched: Pell Ostrom silent", "Court hears Pell Ostrom tomorrow"]
    opened = [
        theme
        for theme in _feed(Emerging(), stream.days(0, 64, _run(60.1) + _run(60.6, other) + _run(61.2, alone)))
        if theme.event == "opened"
    ]
    assert [theme.phrase for theme in opened] == ["Lumen Harbour"]


def test_only_an_escalation_breaks_the_silence_after_an_episode(stream: Stream) -> None:
    again = [f"{_word(random.Random(n))} {title} {_word(random.Random(-n))}" for n, title in enumerate(RUN * 3, 1)]
    quiet = _feed(Emerging(), stream.days(0, 64, _run(60.1) + _run(62.5, again[:3])))
    assert [theme.event for theme in quiet] == ["opened", "closed"]
    worse = _run(60.1) + [(at, f"{name} {n}", title) for n, (at, name, title) in enumerate(_run(62.5, again))]
    loud = _feed(Emerging(), stream.days(0, 64, worse))
    assert [theme.event for theme in loud] == ["opened", "closed", "opened"]
    assert loud[2].observed == 10


def test_what_comes_each_month_is_told_twice_and_then_expected(stream: Stream) -> None:
    planted = [story for month in range(2, 7) for story in _run(30 * month + 0.2)]
    opened = [t.minute for t in _feed(Emerging(), stream.days(0, 200, planted)) if t.event == "opened"]
    assert len(opened) == 2
    assert max(opened) < START + 91 * DAY


def test_it_goes_on_to_the_bit_after_a_restart(item: Make) -> None:
    steps = Stream(item).days(0, 75, _run(60.3) + _run(71.2, [title.replace("Lumen", "Vela") for title in RUN]))
    whole, themes = Emerging(), []
    for step in steps:
        themes += whole.update(*step)
    rng = random.Random(5)
    emerging, found = Emerging(), []
    for step in steps:
        found += emerging.update(*step)
        if rng.random() < 0.02:
            snapshot, emerging = emerging.snapshot(), Emerging()
            emerging.restore(snapshot)
            assert emerging.snapshot() == snapshot
    assert found == themes
    assert len(themes) == 4
    assert emerging.snapshot() == whole.snapshot()


@pytest.mark.parametrize("stories", [5, 260])
def test_a_theme_is_named_once_and_by_its_latest_titles(
    stream: Stream, monkeypatch: pytest.MonkeyPatch, stories: int
) -> None:
    named: list[int] = []

    def counted(term: str, titles: Sequence[str]) -> str:
        named.append(len(titles))
        return phrase(term, titles)

    monkeypatch.setattr("alerts.emerging.phrase", counted)
    rng = random.Random(3)
    titles = [f"{_word(rng)} {_word(rng)} {_word(rng)} at Lumen Harbour {_word(rng)}" for _ in range(stories)]
    emerging = Emerging()
    emerging.is_told = lambda theme: len(theme.items) < stories if stories > 200 else False
    planted = [(60 * DAY + 60 + n, f"Paper {n % 3}", title) for n, title in enumerate(titles)]
    opened = [theme for theme in _feed(emerging, stream.days(0, 61, planted)) if theme.event == "opened"]
    assert [len(theme.items) for theme in opened] == [stories if stories > 200 else 3]
    assert opened[0].phrase == "Lumen Harbour"
    assert named == [3] if stories <= 200 else max(named) == 200


@settings(max_examples=300, deadline=None)
@given(
    observed=st.integers(1, 2_600), known=st.integers(1, 700), shared=st.integers(0, 700), late=st.booleans(),
    term=st.booleans(),
)  # fmt: skip
def test_the_latest_stories_of_a_find_tell_its_episode_as_all_do(
    observed: int, known: int, shared: int, late: bool, term: bool
) -> None:
    stories = [f"{n}" for n in range(observed)]
    both = stories[-shared:] if shared and late else stories[:shared]
    episode = Episode(_peak(), START, ["lumen"], [*(f"old {n}" for n in range(known)), *both][-500:])
    terms_found = ["vela", "lumen"] if term else ["vela"]
    belongs = term or sum(story in set(episode.stories) for story in stories) > 0.3 * observed
    expected = list(reversed(dict.fromkeys(reversed([*episode.stories, *stories]))))[-500:]
    episodes = Episodes()
    episodes.episodes = [episode]
    assert (episodes.take(START + 5, observed, terms_found, stories[-MOST_STORIES:]) is episode) == belongs
    if belongs:
        assert (episode.stories, episode.last) == (expected, START + 5)


@given(
    names=st.lists(st.sampled_from(["Wire", " wire", "Post", "POST ", "Ledger"]), max_size=30), least=st.integers(1, 4)
)
def test_as_many_publishers_are_counted_as_are_needed(names: list[str], least: int) -> None:
    items = [WindowItem(0, "", "", 0.0, 0.0, "negative", 0.9, "T", (), name, "test", "", "") for name in names]
    rest = iter(items)
    assert published_by(rest, least) == (publishers(items) >= least)
    taken = items[: len(items) - len(list(rest))]
    assert publishers(taken[:-1]) < least


def test_a_damaged_snapshot_is_told_apart() -> None:
    with pytest.raises(ThemesSnapshotError):
        Emerging().restore(b"\x00damaged")


def test_a_minute_is_taken_once(stream: Stream) -> None:
    steps = stream.days(0, 1)
    emerging = Emerging()
    _feed(emerging, steps)
    with pytest.raises(ValueError, match="does not follow"):
        emerging.update(*steps[-1])


def test_a_flood_shortens_the_window_forgets_terms_and_says_so(item: Make) -> None:
    emerging = Emerging(ThemesSettings(max_stories=500, max_terms=10_000))
    rng = random.Random(2)
    sizes, opened = [], []
    for minute in range(START, START + 450):
        titles = [" ".join(_word(rng) for _ in range(6)) for _ in range(10)]
        if minute >= START + 440:
            titles.append(f"{_word(rng)} {_word(rng)} at Lumen Harbour {_word(rng)}")
        listed = [
            item(
                n,
                id=f"{minute}/{n}",
                story=f"{minute}/{n}",
                seen_at=minute * 60.0,
                title=title,
                publisher=f"P{n % 7}{minute % 2}",
            )
            for n, title in enumerate(titles)
        ]
        opened += emerging.update(minute, 60, len(listed), listed)
        if minute % 50 == 0:
            sizes.append((len(emerging.snapshot()), emerging.terms))
    assert max(terms for _, terms in sizes) <= 12_500
    assert max(size for size, _ in sizes[8:]) < 1.2 * max(size for size, _ in sizes[:8])
    assert emerging.window_min < 60
    assert emerging.forgotten > 1_000
    assert emerging.loss > 0
    assert [theme.phrase for theme in opened] == ["Lumen Harbour"]


@given(st.lists(st.tuples(st.sampled_from("abcdefghijklmnop"), st.integers(0, 40)), max_size=300), st.integers(1, 12))
def test_a_count_is_never_below_the_truth_and_above_it_by_the_floor_at_most(
    added: list[tuple[str, int]], capacity: int
) -> None:
    memory = Memory(capacity, fade_min=1e12)  # nothing fades: the truth is a plain count
    truth: Counter[str] = Counter()
    minute = 1
    for term, wait in added:
        minute += wait
        memory.advance(minute)
        memory.add(term)
        truth[term] += 1
    assert len(memory) <= capacity * 5 // 4
    for term in "abcdefghijklmnop":
        assert truth[term] - 1e-6 <= memory.count(term) <= truth[term] + memory.floor + 1e-6


def test_counts_fade_and_stay_finite_over_the_years() -> None:
    memory = Memory(10, fade_min=DAY)
    memory.advance(START)
    memory.add("svb")
    memory.advance(START + DAY)
    assert memory.count("svb") == pytest.approx(0.3679, abs=1e-4)
    for day in range(2, 2_000):
        memory.advance(START + day * DAY)
        memory.add("ftx")
    assert memory.count("ftx") == pytest.approx(1.582, abs=1e-3)
    assert memory.count("svb") < 1e-30


@given(st.text(max_size=600))
def test_any_text_has_bounded_terms(text: str) -> None:
    found = terms(text)
    assert len(found) <= MAX_TERMS + 1
    assert len(set(found)) == len(found)
    for term in found:
        assert phrase(term, [text, text])
        is_name(term, [text])


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Sales and jobs fall sharply in August", set()),
        ("RT @desk: Q3 2023 results https://example.org/x", set()),
        ("Ostrom &amp; Sons' dam", {"ostrom", "ostrom sons", "sons", "dam", "sons dam"}),
        ("$SI, $SIVB lower", {"$si", "$sivb"}),
        ("A$AP Vela", {"vela"}),
        ("Bank of America, Vela", {"bank", "bank america", "america", "vela"}),
    ],
)
def test_terms_of_headlines(title: str, expected: set[str]) -> None:
    assert set(terms(title)) == expected
