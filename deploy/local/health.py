"""Asking newsquake's processes how they are, by their `/healthz`."""

from dataclasses import dataclass

import httpx

_TIMEOUT_S = 2.0
_MAX_REASONS = 5


@dataclass(frozen=True)
class Answer:
    """What a process says of itself. `reasons` is empty exactly when it is ready."""

    reachable: bool
    reasons: tuple[str, ...]


def ask(url: str) -> Answer:
    """GET `url`/healthz. Never raises: what is wrong is a reason."""
    try:
        response = httpx.get(f"{url}/healthz", timeout=_TIMEOUT_S, trust_env=False)
    except httpx.HTTPError as exc:
        return Answer(False, (f"no answer at {url}/healthz ({type(exc).__name__})",))
    if response.status_code == 200:
        return Answer(True, ())
    try:
        reasons = tuple(str(reason)[:200] for reason in response.json()["reasons"])[:_MAX_REASONS]
    except (ValueError, KeyError, TypeError):
        reasons = ()
    return Answer(True, reasons or (f"HTTP {response.status_code}",))
