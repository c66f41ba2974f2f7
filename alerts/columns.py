"""Arrays with a column a series, which grow together in blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Counts = NDArray[np.int32]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_BLOCK = 64
_SPARE = 16  # one column in so many is spare, so that growth costs little a series and little is wasted


class Columns:
    """What a part of the detector knows of each series: arrays [..., series], named and shaped by `fields`.

    The arrays are views that end with the last series. They are written in place; assigning another array to such an
    attribute would cut it off from what is kept.
    """

    fields: ClassVar[Mapping[str, tuple[tuple[int, ...], type[np.generic]]]] = {}

    def __init__(self) -> None:
        self.series = 0
        self._room = {name: np.zeros((*shape, 0), kind) for name, (shape, kind) in self.fields.items()}
        self._show()

    def grow(self, more: int) -> None:
        """Append `more` series, all zero."""
        self.series += more
        capacity = next(iter(self._room.values())).shape[-1]
        if self.series > capacity:
            extra = self.series - capacity + max(_BLOCK, self.series // _SPARE)
            for name, old in self._room.items():
                self._room[name] = np.concatenate([old, np.zeros((*old.shape[:-1], extra), old.dtype)], axis=-1)
        self._show()

    def keep(self, columns: Ints) -> None:
        """Keep only these series, in this order."""
        self.series = len(columns)
        self._room = {name: np.ascontiguousarray(room[..., columns]) for name, room in self._room.items()}
        self._show()

    def state(self) -> dict[str, NDArray[Any]]:
        """Return all arrays."""
        return {name: getattr(self, name) for name in self.fields}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `state` returned.

        Raises:
            KeyError, ValueError: it is not that.
        """
        for name, (shape, kind) in self.fields.items():
            if state[name].shape[:-1] != shape or state[name].dtype != kind:
                raise ValueError(f"{name} has the shape {state[name].shape} of {state[name].dtype}")
            self._room[name] = state[name].copy()
            self.series = state[name].shape[-1]
        self._show()

    def _show(self) -> None:
        for name, room in self._room.items():
            setattr(self, name, room[..., : self.series])
