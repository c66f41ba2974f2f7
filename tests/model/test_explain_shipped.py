"""Explanations of the weights that ship are faithful: hiding the words that weigh most is what changes the prediction.

The measure is the deletion test (Samek et al. 2017, Evaluating the Visualization of What a Deep Neural Network Has
Learned), on headlines of our own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import spearmanr

from model.explain import Explainer, Explanation, Head
from model.settings import ModelSettings

_HEADLINES = [
    "Regulator sues bank over alleged fraud",
    "Shares of the airline plunge 20% after it cuts its profit forecast",
    "Chipmaker soars to record high on blowout quarter",
    "Retailer misses third-quarter earnings estimates, revenue down 8%",
    "Software firm beats quarterly estimates and raises its full-year outlook",
    "$XYZ crashes as auditors resign over missing cash",
    "Drugmaker's late-stage trial fails; stock tumbles in premarket",
    "Automaker recalls 400,000 cars after brake defect causes crashes",
    "Lender to cut 3,000 jobs and close dozens of branches",
    "Credit rating of the developer lowered to junk on default fears",
    "Steelmaker wins large contract from the navy, shares jump",
    "Quarterly profit doubles as demand for chargers surges",
    "Broker upgrades the miner to buy and lifts its price target",
    "Hackers steal customer data from payment company",
    "Union calls strike at three plants after talks collapse",
    "The company will hold its annual meeting in Vienna on 12 May",
    "Grain exporter sees weaker harvest and warns on margins",
    "Insurer posts smaller loss than feared, stock gains 5%",
    "Court throws out lawsuit against the software group",
    "Sugar prices slip to a two-month low on ample supply",
    "Pension fund adds to its stake in the logistics firm",
    "Bank halts withdrawals amid liquidity crunch",
    "Chief executive quits abruptly amid accounting probe",
    "Carrier reports strong bookings and raises dividend",
    "Oil giant fined $2bn over spill, appeal rejected",
    "Telecom operator sells towers for 1.2 billion euros",
    "$ABC bullish breakout, calls printing, going to the moon 🚀",
    "Traders dump $QRS puts everywhere this thing is dead",
    "Factory fire stops production of batteries for weeks",
    "Start-up files for bankruptcy protection after funding dries up",
    "Exports rise for a fourth month, beating expectations",
    "Watchdog opens investigation into the merger of two grocers",
    "Board approves share buyback worth 500 million",
    "Home sales drop to the weakest level in a decade",
    "Cocoa futures climb as rains delay the harvest",
    "Airport operator says passenger numbers recover to pre-pandemic levels",
]


@pytest.fixture(scope="module")
def explainer() -> Explainer:
    return Explainer.load(ModelSettings(device="cpu"))


def _weights(explanation: Explanation) -> list[float]:
    return [word.weight for word in explanation.words]


def _fall(explainer: Explainer, found: Sequence[Explanation], weights: Sequence[Sequence[float]], head: Head) -> float:
    """Mean fall of the label's probability when the two words with the largest weights are deleted."""
    kept = []
    for explanation, row in zip(found, weights, strict=True):
        gone = sorted(np.argsort(row)[-2:])
        text = explanation.text
        for word in (explanation.words[i] for i in reversed(gone)):
            text = text[: word.start] + text[word.stop :]
        kept.append(text)
    scores = getattr(explainer.scorer.score(kept), head)
    left = [row[explanation.labels.index(explanation.label)] for row, explanation in zip(scores, found, strict=True)]
    return float(np.mean([explanation.probability for explanation in found]) - np.mean(left))


def _falls(explainer: Explainer, found: Sequence[Explanation], head: Head) -> tuple[float, float]:
    """The fall without the two heaviest words, and without two random ones."""
    rng = np.random.default_rng(0)
    random = [_fall(explainer, found, [rng.random(len(each.words)) for each in found], head) for _ in range(5)]
    return _fall(explainer, found, [_weights(each) for each in found], head), float(np.mean(random))


@pytest.mark.parametrize("head", ["sentiment", "topic"])
def test_the_heaviest_words_carry_the_prediction(explainer: Explainer, head: Head) -> None:
    heaviest, random = _falls(explainer, explainer.explain(_HEADLINES, head=head), head)
    assert heaviest > 0.25
    assert heaviest > 2 * random


def test_integrated_gradients_are_faithful_too_and_agree_with_the_fast_method(explainer: Explainer) -> None:
    few = _HEADLINES[::3]
    gradients = explainer.explain(few, method="integrated-gradients")
    heaviest, random = _falls(explainer, gradients, "sentiment")
    assert heaviest > 0.15
    assert heaviest > 2 * random
    pairs = [(_weights(a), _weights(b)) for a, b in zip(explainer.explain(few), gradients, strict=True)]
    rho = float(np.mean([spearmanr(a, b)[0] for a, b in pairs]))
    top = float(np.mean([len(set(np.argsort(a)[-3:]) & set(np.argsort(b)[-3:])) / 3 for a, b in pairs]))
    assert rho >= 0.5
    assert top >= 0.55
