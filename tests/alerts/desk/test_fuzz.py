"""schemathesis reads the API's own description and sends what fits it and what does not: nothing undescribed comes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alerts.alert import Alert

_CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "ignored_auth",
)


def test_the_api_is_as_it_is_described(served: Any, put: Callable[..., Alert], tmp_path: Path) -> None:
    put()
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{served.url}/api/openapi.json"),
        *("--header", f"Authorization: Bearer {served.token}", "--checks", ",".join(_CHECKS)),
        *("--phases", "coverage,fuzzing", "--max-examples", "4", "--generation-database", "none"),
        *("--exclude-path", "/api/v1/events", "--no-color"),  # it never ends
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-6_000:]
    assert " generated" in done.stdout
