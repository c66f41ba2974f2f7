"""Helpers of all rooms' tests."""

import os
import shutil
from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def service_program() -> Callable[[str, str], str]:
    """Path of a program that the system must have; without it the test is skipped, and fails in CI."""

    def find(name: str, package: str) -> str:
        if found := shutil.which(name):
            return found
        message = f"{name} is not installed (Debian's package {package})"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)

    return find
