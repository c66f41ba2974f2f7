"""Four bits: how far off they may be, and that errors are fed back where that helps."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from model.rounding import dequantise, quantise

_ROWS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.floats(-1, 1, width=32)
)


@given(_ROWS)
def test_four_bits_are_off_by_at_most_half_a_step(rows: np.ndarray) -> None:
    tensor = torch.from_numpy(rows)
    packed, scale = quantise(tensor)
    assert packed.nbytes == rows.shape[0] * ((rows.shape[1] + 1) // 2)
    error = (dequantise(packed, scale, rows.shape[1]) - tensor).square().sum(1)
    half_step = tensor.abs().amax(1) / 14 * 1.001 + 1e-6  # float16 scales
    assert torch.all(error <= rows.shape[1] * half_step.square())


def test_rows_that_did_not_change_stay_exactly_as_they_were() -> None:
    packed, scale = quantise(torch.zeros(3, 5))
    assert torch.equal(dequantise(packed, scale, 5), torch.zeros(3, 5))


@settings(deadline=None)  # other work may have the processor
@given(st.integers(0, 2**32 - 1), st.integers(30, 300))
def test_with_moments_the_product_is_nearer_and_the_form_the_same(seed: int, columns: int) -> None:
    drawing = torch.Generator().manual_seed(seed)
    rows = torch.randn(6, columns, generator=drawing)
    causes = torch.randn(columns // 3, columns, generator=drawing)  # a third as many: columns go together
    seen = torch.randn(2_000, columns // 3, generator=drawing) @ causes
    moments = seen.T @ seen

    def error(packed: Tensor, scale: Tensor) -> float:
        return float(((dequantise(packed, scale, columns) - rows) @ seen.T).square().sum())

    plain, fed_back = quantise(rows), quantise(rows, moments)
    assert fed_back[0].shape == plain[0].shape
    assert torch.equal(fed_back[1], plain[1])
    assert error(*fed_back) < error(*plain)


def test_without_anything_seen_rounding_is_plain() -> None:
    rows = torch.randn(4, 200, generator=torch.Generator().manual_seed(1))
    for mine, plain in zip(quantise(rows, torch.zeros(200, 200)), quantise(rows), strict=True):
        assert torch.equal(mine, plain)
