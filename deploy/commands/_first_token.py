"""The desk's first token: made where a person sees it, and nowhere else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from alerts.desk.auth import Tokens


def first_token(tokens: Tokens, show: Callable[[str], None]) -> bool:
    """Show the first token when it was not made before and standard output is a terminal; return whether it was shown.

    Anywhere else what is printed stays in a log, and a token with it.

    Raises:
        redis.RedisError: the server failed; what was shown may not be kept, and a minute later another would be.
    """
    from alerts.desk.auth import AuthError

    try:
        return sys.stdout.isatty() and tokens.first(show)
    except AuthError as exc:
        click.echo(str(exc), err=True)
        return True
