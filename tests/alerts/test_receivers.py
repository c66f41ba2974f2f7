"""Settings of receivers: secrets from text, files and variables, never printed; what is wrong is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from alerts.receivers import WebhookReceiver
from alerts.settings import AlertsSettings

SLACK = {"type": "slack", "name": "desk", "url": "https://hooks.example/t0ken"}


def load(*receivers: dict[str, Any]) -> AlertsSettings:
    return AlertsSettings.model_validate({"receivers": receivers})


def test_a_secret_comes_from_text_a_file_or_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "url").write_text("https://hooks.example/fr0mfile\n")
    monkeypatch.setenv("NEWSQUAKE_DESK_URL", "https://hooks.example/fr0menv")
    sources = ["https://hooks.example/inline", {"file": str(tmp_path / "url")}, {"env": "NEWSQUAKE_DESK_URL"}]
    found = load(*({**SLACK, "name": f"r{n}", "url": url} for n, url in enumerate(sources)))
    urls = [receiver.url.get_secret_value() for receiver in found.receivers if receiver.type == "slack"]
    assert [url.rpartition("/")[2] for url in urls] == ["inline", "fr0mfile", "fr0menv"]
    for shown in (repr(found), str(found.model_dump())):
        assert "fr0m" not in shown
        assert "inline" not in shown


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": {"file": "/nowhere/at/all"}},
        {"url": {"env": "HOME"}},
        {"url": {"env": "NEWSQUAKE_NOT_SET"}},
        {"url": {"file": "a", "env": "b"}},
        {"url": "ftp://hooks.example/t0ken"},
        {"name": "with space"},
        {"allow_networks": ["10.0.0.1/8"]},
        {"ca_file": "/etc/hostname"},
        {"type": "carrier pigeon"},
        {"per_minute": 0},
        {"secret": "t0ken"},
        {"type": "pagerduty", "routing_key": "t0ken"},
        {"type": "webhook", "secrets": []},
        {"type": "email", "host": "mail", "sender": "nobody", "to": ["a@b.example"]},
        {"type": "email", "host": "mail", "sender": "a@b.example", "to": ["a@b.example\r\nBcc: c@d.example"]},
    ],
)
def test_what_is_wrong_is_refused_without_its_secret(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        load({**SLACK, **wrong})
    assert "t0ken" not in str(caught.value).replace("NEWSQUAKE", "")


def test_two_receivers_of_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match="two receivers have the same name"):
        load(SLACK, SLACK)


@pytest.mark.parametrize("bad", ["", "secret", "whsec_", "whsec_c2hvcnQ=", "whsec_!!!!"])
def test_bad_secrets_and_urls_are_refused_unprinted(bad: str, secret: str) -> None:
    with pytest.raises(ValidationError) as caught:
        WebhookReceiver.model_validate({"name": "desk", "url": "https://example.org/t0ken", "secrets": [bad]})
    assert "24-64 bytes" in str(caught.value) or not bad
    urls = ["ftp://example.org/t0ken", "https:///t0ken", "t0ken", "https://[::1/t0ken", "https://example.org/\x01t0ken"]
    urls += [f"https://example.org:{port}/t0ken" for port in (99_999, 0, -1, "t0ken")]
    urls += ["https:// example.org/t0ken", "https://example.org/t0ken\n"]
    for url in urls:
        with pytest.raises(ValidationError) as caught:
            WebhookReceiver.model_validate({"name": "desk", "url": url, "secrets": [secret]})
        assert "t0ken" not in str(caught.value)
