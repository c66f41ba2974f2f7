"""The explainer of alerts: nothing is loaded before the first alert, and the shipped weights say why it is bad news."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.explainer import LazyExplainer, explainer_of
from model.errors import ModelError
from model.settings import ModelSettings


def test_the_words_that_make_a_title_negative() -> None:
    explainer = explainer_of(ModelSettings())
    assert explainer is not None
    crash, calm, empty = explainer(["Shares of the lender plunge on fraud probe", "Lender holds its meeting", ""])
    assert {"plunge", "fraud"} & {word for word, _ in crash[:2]}
    assert [weight for _, weight in crash] == sorted((weight for _, weight in crash), reverse=True)
    assert all(weight > 0 for _, weight in crash)
    assert list(empty) == []
    assert max((weight for _, weight in calm), default=0.0) < crash[0][1]


def test_nothing_heavy_is_loaded_before_it_is_asked() -> None:
    code = (
        "import sys; from deploy.explainer import explainer_of; from model.settings import ModelSettings\n"
        "import alerts.engine, deploy.commands.alerts\n"
        "assert explainer_of(ModelSettings()) is not None\n"
        "print(sorted({'torch', 'transformers', 'openvino', 'captum'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_the_extra_there_is_none(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with caplog.at_level("INFO"):
        assert explainer_of(ModelSettings()) is None
    assert "newsquake[model]" in caplog.text


def test_weights_that_are_not_there_are_an_error_each_time(tmp_path: Path) -> None:
    explainer = LazyExplainer(ModelSettings(weights=tmp_path))
    for _ in range(2):
        with pytest.raises(ModelError, match=r"config\.json"):
            explainer(["Shares plunge"])
