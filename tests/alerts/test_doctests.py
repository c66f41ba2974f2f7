"""The examples in the room's docstrings are true."""

import doctest
import importlib
import pkgutil

import pytest

import alerts


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(alerts.__path__)])
def test_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"alerts.{name}")).failed == 0
