"""The soak in short: 5,000 items, five kills, a model that answers at once. `make soak` is the whole."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ITEMS = 5_000


def write_tweets(path: Path) -> Path:
    """Tweets of two weeks; some are retweets of one before, some come under two tickers."""
    chance = random.Random(3)
    at = datetime(2015, 3, 2, tzinfo=UTC)
    told = ["Something happens"]
    with path.open("w", encoding="utf-8") as out:
        out.write("created_at_utc,ticker,tweet_id,user_id,is_retweet,text\n")
        n = 0
        while n < ITEMS:
            at += timedelta(seconds=chance.expovariate(1 / 240))
            copy = chance.random() < 0.2
            told.append(
                chance.choice(told[-50:]) if copy else f"Quarter {n} of the firm brought {chance.random()} more"
            )
            for ticker in chance.sample(["AAPL", "MSFT", "GE", "JPM"], chance.choice([1, 1, 2])):
                n += 1
                if n <= ITEMS:
                    user = chance.randrange(300)
                    out.write(f"{at:%Y-%m-%dT%H:%M:%SZ},{ticker},{len(told)},{user},{copy:d},{told[-1]} ${ticker}\n")
    return path


def test_windows_equal_the_fold_of_scored_while_parts_are_killed(tmp_path: Path) -> None:
    kills = {"worker": 3, "broker": 1, "redis": 1}
    command = [sys.executable, "-m", "tests.soak", str(write_tweets(tmp_path / "tweets.csv")), "--instant"]
    command += [word for what, count in kills.items() for word in (f"--{what}-kills", str(count))]
    command += ["--delay-s", "0.1", "--keep", str(tmp_path / "soak"), "--timeout-s", "240"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=280, check=False)
    assert done.stdout, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["kills"] == kills
    assert (result["missing"], result["doubled"], result["unscored"], result["dead"]) == (0, 0, 0, 0), done.stderr
    assert result["windows_equal"]
    assert result["scored"] == result["documents"] >= ITEMS
    assert result["alerts_delivered"] == result["alerts_sent"]
    assert done.returncode == 0, result
