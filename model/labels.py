"""Where label names come from: the data that weights are trained on, and from then on their `config.json`.

The names below are what the published sets' codes mean. Everything that reads scores takes its names from the loaded
model (`Scorer.sentiment_labels`, `Scorer.topic_labels`), never from here.
"""

from __future__ import annotations

SENTIMENT = ("negative", "neutral", "positive")
TFNS_CODES = {"0": "negative", "1": "positive", "2": "neutral"}  # the set's: bearish, bullish, neutral
