"""Errors of this room.

ModelError            a model cannot be loaded, trained or run; the message says what to do
├── DataError         a labelled set is not as its reader expects; names file, row and column
└── DeviceError       the device fails, or has no memory: the same may work later
"""

from __future__ import annotations


class ModelError(Exception):
    """A model cannot be loaded, trained or run."""


class DataError(ModelError):
    """A labelled set is not as its reader expects."""


class DeviceError(ModelError):
    """The device fails, or has no memory for a single text. No text is the cause, and the same may work later."""
