from __future__ import annotations

import pytest
import torch
from torch import nn

from model.dropout import SlicedDropout, slice_dropout


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Dropout(0.1), nn.Sequential(nn.Dropout(0.5)), nn.Dropout(0.0))
    slice_dropout(network)
    return network


def test_it_drops_its_share_and_keeps_the_mean(network: nn.Sequential) -> None:
    for dropout, share in ((network[0], 0.1), (network[1][0], 0.5)):
        dropped = dropout(torch.ones(500, 400))
        assert float((dropped == 0).float().mean()) == pytest.approx(share, abs=0.01)
        assert float(dropped.mean()) == pytest.approx(1, abs=0.02)


def test_masks_differ_by_call_and_come_again_by_seed(network: nn.Sequential) -> None:
    torch.manual_seed(7)
    first, second = (network[0](torch.ones(100)) for _ in range(2))
    torch.manual_seed(7)
    assert torch.equal(network[0](torch.ones(100)), first)
    assert not torch.equal(first, second)


def test_evaluation_drops_nothing_and_what_never_drops_stays(network: nn.Sequential) -> None:
    values = torch.randn(30)
    assert torch.equal(network.eval()(values), values)
    assert isinstance(network[2], nn.Dropout)


def test_more_values_than_masks_are_dropped_too() -> None:
    dropout = SlicedDropout(0.5, torch.ones(8))
    assert 0 < int((dropout(torch.ones(64)) == 0).sum()) < 64
