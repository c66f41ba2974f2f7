from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.batches import Batch
from model.data import UNLABELLED
from model.loss import class_weights, loss
from model.network import Logits, Network
from model.perturb import PERTURBATIONS, perturb
from model.text import clean


def _batch(n: int, *, taught: bool) -> Batch:
    generator = torch.Generator().manual_seed(0)
    soft_sentiment = torch.rand(n, 2, 3, generator=generator)
    soft_topic = torch.rand(n, 3, generator=generator)
    return Batch(
        torch.randint(1_000, 20_000, (n, 12), generator=generator),
        torch.ones(n, 12, dtype=torch.long),
        torch.randint(-1, 3, (n, 2), generator=generator),
        torch.randint(-1, 3, (n,), generator=generator),
        torch.rand(n, generator=generator),
        torch.rand(n, generator=generator) + 0.1,
        (torch.rand(n, generator=generator) < 0.5).float() * taught,
        soft_sentiment / soft_sentiment.sum(-1, keepdim=True),
        soft_topic / soft_topic.sum(-1, keepdim=True),
    )


@pytest.mark.parametrize("taught", [False, True])
@pytest.mark.parametrize("parts", [2, 3, 7])
def test_a_batch_in_parts_has_the_same_gradient(parts: int, taught: bool, tiny_network: Network) -> None:
    batch = _batch(7, taught=taught)

    def gradient(n: int) -> torch.Tensor:
        tiny_network.zero_grad()
        for rows in torch.arange(7).chunk(n):
            part = Batch(*(tensor[rows] for tensor in batch))
            logits = tiny_network(part.input_ids, part.attention_mask)
            loss(logits, part, smoothing=0.1, total_weight=batch.weight.sum()).backward()
        return torch.cat([p.grad.flatten() for p in tiny_network.parameters() if p.grad is not None])

    torch.testing.assert_close(gradient(parts), gradient(1), rtol=1e-3, atol=1e-6)


def test_unlabelled_rows_without_a_teacher_count_nothing() -> None:
    batch = _batch(4, taught=False)
    batch = batch._replace(sentiment=torch.full((4, 2), UNLABELLED), topic=torch.full((4,), UNLABELLED))
    logits = Logits(torch.randn(4, 2, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True))
    assert loss(logits, batch).item() == 0


def test_smoothing_and_class_weights_do_what_they_say() -> None:
    unlabelled, one = torch.full((1, 2), UNLABELLED), torch.ones(1)
    batch = _batch(1, taught=False)._replace(sentiment=unlabelled, topic=torch.tensor([1]), topic_weight=one)
    logits = Logits(torch.zeros(1, 2, 3), torch.tensor([[0.0, 2.0, 0.0]]))
    log_p = logits.topic.log_softmax(-1)[0]
    assert loss(logits, batch).item() == pytest.approx(-log_p[1].item())
    assert loss(logits, batch._replace(topic_weight=0.25 * one)).item() == pytest.approx(-0.25 * log_p[1].item())
    smooth = -(0.7 * log_p[1] + 0.1 * log_p.sum()).item()
    assert loss(logits, batch, smoothing=0.3).item() == pytest.approx(smooth)
    weighted = loss(logits, batch, topic_weight=torch.tensor([1.0, 3.0, 1.0])).item()
    assert weighted == pytest.approx(-3 * log_p[1].item())
    target = torch.tensor([0] * 90 + [1] * 10 + [UNLABELLED] * 50)
    weights = class_weights(target, 2, 1.0)
    assert (weights[0] * 90).item() == pytest.approx((weights[1] * 10).item())
    assert torch.equal(class_weights(target, 2, 0.0), torch.ones(2))


@given(st.text(max_size=80), st.sampled_from(sorted(PERTURBATIONS)), st.integers(0, 1_000))
def test_a_perturbed_text_is_the_same_text_to_a_reader(text: str, name: str, seed: int) -> None:
    changed = PERTURBATIONS[name](text, np.random.default_rng(seed))
    if name == "URL":
        assert clean(changed) == clean(text) or "http" in text or "&" in text or "www" in text.lower()
    elif name in ("emoji", "hashtag", "cashtag"):
        assert text in changed
    elif name in ("typo", "full stop"):
        assert abs(len(changed) - len(text)) <= 1
    elif name == "number":
        assert len(changed) == len(text)
    else:
        assert changed.lower() == text.lower() or changed.upper() == text.upper()
    assert perturb(text, np.random.default_rng(seed)) == perturb(text, np.random.default_rng(seed))
