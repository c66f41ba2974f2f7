"""Planted themes: k negative stories of two publishers or more on a phrase not seen before, in a year of headlines.

    python -m tests.bench.themes [--background FILE.csv --column title] [--a-day 180] [--seed 1]

Background: 180 items a day (`--a-day`: 3 is what few small feeds bring) by a Poisson process with a daily rhythm, five
publishers, 15 % negative at random, a fifth of them reprints of the last day. Without a file the headlines are made of
3,000 words that nobody uses, as frequent as in English (Zipf), with the shapes of headlines; a file's headlines are
drawn at random. A tenth of the headlines carries words of the calendar and of earnings, more at the ends of months and
quarters and then 60 % negative: seasons.

First the year alone: alerts a week. Then the year with a planting each third day, of 5 and of 3 stories within a day:
the share found, by an alert that names one of its stories. Beside it, for what a count of all negatives an hour tells
(`alerts.counts`): points a week, and the share of plantings in whose 24 h one falls. The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import random
import time
from collections import Counter
from collections.abc import Iterator

import numpy as np

from alerts.counts import CountDetector
from alerts.emerging import Emerging
from alerts.settings import ThemesSettings
from alerts.terms import terms
from alerts.windows import WindowItem

DAYS, SHARE, REPRINTS = 365, 0.15, 0.2
PUBLISHERS = ("Morning Ledger", "Harbour Wire", "Northern Post", "Exchange Daily", "The Teller")
START_MIN = 19_358 * 1_440
FIRST_DAY = 30  # plantings begin when a month is known
SEASONS = (
    "{0} sales drop in {month} jobs report", "Quarterly earnings: {0} cuts full-year outlook",
    "{0} profit falls sharply", "Stocks end {month} lower as {0} weighs",
    "{0} posts a loss for the quarter, shares tumble",
)  # fmt: skip
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September")
SHAPES = (
    "{0} {1} as {2} {3}", "{0} to {1} {2} in {3}", "{0} {1}, {2} {3} says", "Why {0} {1} {2} after {3} {4}",
    "{0} and {1} {2} {3} over {4}", "{0}: {1} {2} for {3} {4} {5}",
)  # fmt: skip
PLANTED = ("{p} {0} as {1} {2}", "{0} {1} over {p}", "Why {p} may {0} {1} {2}", "{0}: {p} {1} {2}", "{1} {0} at {p}")


def made_word(rng: random.Random) -> str:
    """Two or three syllables."""
    return "".join(
        rng.choice("bcdfgklmnprstvz") + rng.choice("aeiou") + rng.choice(("", "n", "r", "l", "s"))
        for _ in range(rng.choice((2, 2, 3)))
    )


class Own:
    """Headlines of made words; one word in six is a name."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._words = [w.title() if n % 6 == 0 else w for n, w in enumerate(made_word(rng) for _ in range(3_000))]
        self._weights = [1 / (rank + 10) for rank in range(len(self._words))]

    def words(self, count: int) -> list[str]:
        """Some words."""
        return self._rng.choices(self._words, self._weights, k=count)

    def headline(self) -> str:
        """One headline."""
        text = self._rng.choice(SHAPES).format(*self.words(6))
        return text[0].upper() + text[1:]


class Given(Own):
    """Headlines of a file; the words of planted ones are taken from them."""

    def __init__(self, rng: random.Random, path: str, column: str) -> None:
        super().__init__(rng)
        opener = gzip.open if path.endswith(".gz") else open
        with opener(path, "rt", encoding="utf-8", newline="") as file:
            self._titles = [row[column] for row in csv.DictReader(file)]

    def words(self, count: int) -> list[str]:
        """Words of some headline."""
        found: list[str] = []
        while len(found) < count:
            words = self._rng.choice(self._titles).split()
            found += [word for word in words if word.isalpha() and word.islower() and terms(word)][:2]
        return found[:count]

    def headline(self) -> str:
        """One headline."""
        return self._rng.choice(self._titles)


def made_item(minute: int, id_: str, title: str, publisher: str) -> WindowItem:
    """One item of the stream."""
    at = (START_MIN + minute) * 60.0
    return WindowItem(0, id_, id_, at, at, "negative", 0.9, "Stock", (), publisher, "bench", title, "")


def poisson(rng: random.Random, mean: float) -> int:
    """A number of arrivals (Knuth's product of uniforms; means here are below 1)."""
    left, count = rng.random(), 0
    while left > math.exp(-mean):
        left *= rng.random()
        count += 1
    return count


def year(
    rng: random.Random, source: Own, planted: int, a_day: float
) -> Iterator[tuple[int, list[WindowItem], list[bool]]]:
    """Yield minutes that have items, these, and whether each is negative; planted ones have ids `planted-<n>/…`."""
    plan: dict[int, list[tuple[str, str, str]]] = {}
    for number, day in enumerate(range(FIRST_DAY, DAYS - 3, 3) if planted else ()):
        name = f"{made_word(rng).title()} {made_word(rng).title()}" if rng.random() < 0.7 else made_word(rng)
        at = day * 1_440 + rng.randrange(1_440)
        publishers = rng.sample(PUBLISHERS, 2)
        publishers += [rng.choice(PUBLISHERS) for _ in range(planted - 2)]
        if name.islower():  # a common word beside another
            name = f"{source.words(1)[0]} {name}"
        for publisher in publishers:
            title = rng.choice(PLANTED).format(*source.words(3), p=name)
            plan.setdefault(at + rng.randrange(1_440), []).append((f"planted-{number}", publisher, title))
    latest: list[str] = []
    count = 0
    for minute in range(DAYS * 1_440):
        items: list[WindowItem] = []
        bad: list[bool] = []
        rate = a_day / 1_440 * (1 + 0.8 * math.sin(2 * math.pi * (minute / 1_440 - 0.3)))
        for _ in range(poisson(rng, rate)):
            count += 1
            day = minute // 1_440
            season = day % 30 >= 27 or day % 91 >= 80
            if rng.random() < (0.25 if season else 0.03):
                text = rng.choice(SEASONS).format(source.words(1)[0], month=MONTHS[day // 30 % 9])
                items.append(made_item(minute, f"{count}", text[0].upper() + text[1:], rng.choice(PUBLISHERS)))
                bad.append(rng.random() < 0.6)
                continue
            title = rng.choice(latest) if latest and rng.random() < REPRINTS else source.headline()
            latest = [*latest[-math.ceil(a_day) :], title]
            items.append(made_item(minute, f"{count}", title, rng.choice(PUBLISHERS)))
            bad.append(rng.random() < SHARE)
        for number, (id_, publisher, title) in enumerate(plan.get(minute, ())):
            items.append(made_item(minute, f"{id_}/{minute}/{number}", title, publisher))
            bad.append(True)
        if items:
            yield START_MIN + minute, items, bad


def points_of(by_hour: Counter[int], first: int, last: int) -> list[int]:
    """Return the hours (Unix time // 3600) at whose negatives the detector of plain counts gives a point."""
    detector = CountDetector(1, step_s=3_600.0)
    return [
        hour
        for hour in range(first, last)
        if detector.update(hour * 3_600.0 + 3_600.0, np.array([by_hour[hour]])).point[0]
    ]


def run(seed: int, planted: int, background: str, column: str, show: bool, a_day: float) -> dict[str, float]:
    """Return shares found, the number of plantings, other alerts a week and µs an item."""
    rng = random.Random(seed)
    source = Given(rng, background, column) if background else Own(rng)
    detector = Emerging(ThemesSettings())
    found, others, items, took_s = set(), 0, 0, 0.0
    plantings = len(range(FIRST_DAY, DAYS - 3, 3)) if planted else 0
    by_hour: Counter[int] = Counter()
    begins: dict[str, int] = {}
    for minute, listed, bad in year(rng, source, planted, a_day):
        negatives = [item for item, negative in zip(listed, bad, strict=True) if negative]
        items += len(listed)
        by_hour[minute // 60] += len(negatives)
        for item in listed:
            if item.id.startswith("planted"):
                begins.setdefault(item.id.split("/")[0], minute // 60)
        begun = time.process_time()
        themes = detector.update(minute, len(listed), len(negatives), negatives)
        took_s += time.process_time() - begun
        for theme in themes:
            if theme.event == "opened":
                numbers = {item.id.split("/")[0] for item in theme.items if item.id.startswith("planted")}
                found |= numbers
                others += not numbers
                if show:
                    print(
                        f"  {theme.phrase!r}: {theme.observed} of {theme.expected:.2f}, p {theme.p_value:.1g}",
                        flush=True,
                    )
    points = points_of(by_hour, START_MIN // 60, START_MIN // 60 + DAYS * 24)
    within = {name for name, begin in begins.items() for hour in points if begin <= hour <= begin + 24}
    return {
        "found": len(found) / max(1, plantings),
        "plantings": plantings,
        "a_week": others / (DAYS / 7),
        "rate_found": len(within) / max(1, plantings),
        "points_a_week": len(points) / (DAYS / 7),
        "us_an_item": took_s / max(1, items) * 1e6,
    }


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--background", default="", help="a CSV of headlines, .gz too")
    parser.add_argument("--column", default="title")
    parser.add_argument("--a-day", type=float, default=180.0, help="items a day")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", action="store_true", help="print each alert")
    args = parser.parse_args()
    result: dict[str, float] = {}
    for planted in (0, 5, 3):
        now = run(args.seed, planted, args.background, args.column, args.show, args.a_day)
        others = f"{now['a_week']:.2f} other alerts a week"
        if planted:
            result[f"found_{planted}"] = round(now["found"], 3)
            result[f"rate_found_{planted}"] = round(now["rate_found"], 3)
            print(
                f"{planted} stories planted {now['plantings']} times: {now['found']:.1%} found; {others}; by the rate "
                f"{now['rate_found']:.1%}",
                flush=True,
            )
        else:
            result["alerts_a_week"] = round(now["a_week"], 2)
            result["rate_points_a_week"] = round(now["points_a_week"], 2)
            print(f"a year without plantings: {others}; points by the rate {now['points_a_week']:.2f}", flush=True)
        result["us_an_item"] = round(now["us_an_item"], 1)
    print(json.dumps({"bench": "themes", "background": bool(args.background), "a_day": args.a_day, **result}))


if __name__ == "__main__":
    main()
