"""The desk's first token: made where a person sees it, and nowhere else."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alerts.desk.auth import Tokens


def first_token(tokens: Tokens) -> str | None:
    """Return the first token when it was not made before and standard output is a terminal.

    Anywhere else what is printed stays in a log, and a token with it.
    """
    return tokens.first() if sys.stdout.isatty() else None
