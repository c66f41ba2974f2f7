"""Errors of this room.

ModelError            a model cannot be loaded, trained or run; the message says what to do
└── DataError         a labelled set is not as its reader expects; names file, row and column
"""

from __future__ import annotations


class ModelError(Exception):
    """A model cannot be loaded, trained or run."""


class DataError(ModelError):
    """A labelled set is not as its reader expects."""
