"""schemathesis reads the API's own description and sends what fits it and what does not: nothing undescribed comes.

Of ids it is told some that are there, so that deeds are done, and of texts some that are mark-up.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alerts.alert import Alert
from alerts.audit import Audit

_CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "ignored_auth",
)
_MARKUP = ("<img src=x onerror=alert(1)>", "\"'><script>alert(1)</script>", "</textarea><svg onload=alert(1)>")
_KNOWN = {
    "path.alert_id": ("alerts", 0.9),
    "path.silence_id": ("silences", 0.9),
    "body.alerts[*]": ("alerts", 0.9),
    "body.reason": ("markup", 0.5),
    "body.text": ("markup", 0.5),
    "body.matchers": ("matchers", 0.5),
    "body.length": ("lengths", 0.5),
    "body.label": ("labels", 0.5),
    "body.story": ("stories", 0.5),
}


def _configured(folder: Path, **values: list[Any]) -> None:
    """Tell schemathesis, which looks there, what is known; each at its place, with its probability."""
    lines = [f"[dictionaries.{name}]\nvalues = {json.dumps(each)}" for name, each in values.items()]
    lines.append("[parameters]")
    lines += [f'"{place}" = {{ dictionary = "{name}", probability = {p} }}' for place, (name, p) in _KNOWN.items()]
    (folder / "schemathesis.toml").write_text("\n".join(lines))


def test_the_api_is_as_it_is_described(
    serve: Callable[..., Any], put: Callable[..., Alert], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served = serve(logins_a_minute=10_000)  # wrong tokens are tried, and are not to be refused for their number
    made = [put(f"company=C{number}", minutes_ago=number) for number in range(8)]
    body = {"matchers": "company=NONE", "minutes": 60, "reason": "known"}
    silences = [served.client.post("/api/v1/silences", json=body | {"minutes": 60 + n}).json() for n in range(4)]
    _configured(
        tmp_path,
        alerts=[each.id for each in made],
        silences=[each["id"] for each in silences],
        markup=list(_MARKUP),
        matchers=["company=JPM", f'topic="{_MARKUP[0]}"'],
        lengths=["90m", "1d12h", _MARKUP[0]],
        labels=["neutral", "Earnings", _MARKUP[0]],
        stories=[0, 1],
    )
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{served.url}/api/openapi.json"),
        *("--header", f"Authorization: Bearer {served.token}", "--checks", ",".join(_CHECKS)),
        *("--phases", "coverage,fuzzing", "--max-examples", "8", "--generation-database", "none"),
        *("--exclude-path", "/api/v1/events", "--no-color"),  # it never ends
    ]
    with caplog.at_level(logging.DEBUG, "alerts"), caplog.at_level(logging.DEBUG, "uvicorn"):
        run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240, cwd=tmp_path)
        pages = [served.client.get(path).text for path in ("/", "/alerts?state=all", "/silences", "/health", "/audit")]
        pages += [served.client.get(f"/alerts/{each.id}").text for each in made]
    assert run.returncode == 0, run.stdout[-6_000:]
    assert " generated" in run.stdout
    assert len({each.what for each in Audit(served.redis).last(10_000)} - {"sign in refused"}) > 4  # deeds were done
    assert "alert(1)" in "".join(pages)
    for page in pages:
        assert not any(tag in page for tag in ("<img", "<script>", "<svg onload"))
    for secret in (served.token, served.reader_token):
        assert secret not in "".join(pages)
        assert secret not in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
