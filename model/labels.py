"""Where label names come from: the configuration that lies beside the weights.

The names below are the ones new weights are trained with. Everything that reads scores takes its names from the loaded
model (`Scorer.sentiment_labels`, `Scorer.topic_labels`), never from here.
"""

from __future__ import annotations

SENTIMENT = ("negative", "neutral", "positive")

# Each set was labelled by its own rules (SEntFiN judges the company named, TFNS the market's reading of the tweet), so
# each has a head of its own in training. Served is the mean of their probabilities.
CONVENTIONS = ("tfns", "sentfin")

TFNS_CODES = {"0": "negative", "1": "positive", "2": "neutral"}  # the set's: bearish, bullish, neutral
