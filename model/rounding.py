"""Matrices in 4 bits: one scale a row, symmetric, -7 to 7."""

from __future__ import annotations

import torch
from torch import Tensor

_TOP = 7
_CLIPS = torch.linspace(0.5, 1.0, 11)  # the share of a row's largest value that still fits; the rest is cut to it
_DAMPING = 0.01  # of the mean: directions that were never seen still count a little
_BLOCK = 128  # columns whose errors are handed on at once


def quantise(rows: Tensor, moments: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(r, c) float32 as 4-bit values (r, ceil(c / 2)) uint8 and scales (r,) float16.

    Of a few scales the one with the least squared error is taken, row by row.

    Args:
        rows: What is rounded.
        moments: Second moments (c, c) of what the rows are multiplied with. With them the error of the product is made
            small, not that of the entries: what rounding adds in one column is taken back in those that are seen
            together with it (Frantar et al. 2023, GPTQ).
    """
    scale = _scale(rows)
    whole = _steps(rows, scale) if moments is None else _fed_back(rows, scale, moments)
    values = (whole + _TOP + 1).to(torch.uint8)
    if values.shape[1] % 2:
        values = torch.nn.functional.pad(values, (0, 1), value=_TOP + 1)
    return values[:, 0::2] | (values[:, 1::2] << 4), scale.half()


def dequantise(packed: Tensor, scale: Tensor, columns: int) -> Tensor:
    """The inverse of `quantise`: (r, columns) float32."""
    values = torch.stack((packed & 15, packed >> 4), dim=2).flatten(1)[:, :columns]
    return (values.float() - _TOP - 1) * scale.float()[:, None]


def _scale(rows: Tensor) -> Tensor:
    largest = rows.abs().amax(1)
    best_error = torch.full_like(largest, torch.inf)
    best_scale = torch.zeros_like(largest)
    for clip in _CLIPS:
        scale = (largest * clip / _TOP).half().float()
        error = (_steps(rows, scale) * scale[:, None] - rows).square().sum(1)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best_scale = torch.where(better, scale, best_scale)
    return best_scale


def _steps(rows: Tensor, scale: Tensor) -> Tensor:
    """The whole numbers of steps of `scale` (r,) that `rows` (r, c) are."""
    return (rows / scale.clamp(min=1e-12)[:, None]).round().clamp(-_TOP, _TOP)


def _fed_back(rows: Tensor, scale: Tensor, moments: Tensor) -> Tensor:
    """As `_steps`, column by column, the most seen first; the others take up what each leaves."""
    moments = moments.double() / moments.diagonal().mean().clamp(min=1e-12)
    moments += _DAMPING * torch.eye(len(moments))
    order = moments.diagonal().argsort(descending=True)
    lower = torch.linalg.cholesky(moments[order][:, order].flip(0, 1))
    # U with U.T @ U = the inverse
    upper = torch.linalg.solve_triangular(lower, torch.eye(len(lower)).double(), upper=False).flip(0, 1).float()
    left, found = rows[:, order].clone(), torch.empty_like(rows)
    for start in range(0, rows.shape[1], _BLOCK):
        block = slice(start, start + _BLOCK)
        now, within = left[:, block].clone(), upper[block, block]
        errors = torch.empty_like(now)
        for column in range(now.shape[1]):
            steps = _steps(now[:, column : column + 1], scale)
            found[:, start + column] = steps[:, 0]
            errors[:, column] = (now[:, column] - steps[:, 0] * scale) / within[column, column]
            now[:, column:] -= errors[:, column, None] * within[column, column:]
        left[:, start + _BLOCK :] -= errors @ upper[block, start + _BLOCK :]
    return found[:, order.argsort()]
