"""The state directory: one `newsquake up` at a time, and the secret that signs local webhooks."""

import base64
import fcntl
import json
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.local.errors import LocalError

_LOCK_NAME = "up.lock"
_SECRET_FILE = "webhook.secret"  # noqa: S105


def private_dir(path: Path) -> None:
    """Makes a directory for this user alone, and each above it that is missing; one that exists is closed to others.

    Those above that exist stay as they are: they may be anybody's.

    Raises:
        LocalError: it cannot be made, or is another user's.
    """
    try:
        _make(path)
        if path.stat().st_mode & 0o077:
            path.chmod(0o700)
    except OSError as exc:
        raise LocalError(f"Cannot make the directory {path}, for this user only: {exc.strerror}.") from exc


def _make(path: Path) -> None:
    for missing in reversed([each for each in (path, *path.parents) if not each.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)  # `parents=True` would give those above the usual modes


class StateLock:
    """Holds the state directory for this process. The kernel lets go of it however the process ends."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._fd: int | None = None

    def __enter__(self) -> Self:
        """Makes the directory (for this user only) where there is none, and takes the lock.

        One that exists may hold other things: what newsquake puts into it is private by itself.

        Raises:
            LocalError: another `newsquake up` holds it, or the directory cannot be written.
        """
        path = self._state_dir / _LOCK_NAME
        try:
            _make(self._state_dir)
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as exc:
            raise LocalError(
                f"Cannot use the state directory {self._state_dir}: {exc.strerror}. "
                f"Set local.state_dir to a directory that this user may write."
            ) from exc
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            who = _holder(os.pread(fd, 1_000, 0))
            os.close(fd)
            raise LocalError(
                f"`newsquake up` already runs with the state directory {self._state_dir.absolute()} ({who}). "
                f"Stop that one, or give this one a local.state_dir and ports of its own."
            ) from exc
        note = json.dumps({"pid": os.getpid(), "since": datetime.now(UTC).isoformat(timespec="seconds")})
        os.ftruncate(fd, 0)
        os.pwrite(fd, note.encode(), 0)
        self._fd = fd
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def holder(state_dir: Path) -> str | None:
    """Who holds the state directory (`pid 12, since …`), or None when nobody does."""
    try:
        fd = os.open(state_dir / _LOCK_NAME, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(os.pread(fd, 1_000, 0))
    finally:
        os.close(fd)
    return None


def _holder(note: bytes) -> str:
    try:
        data = json.loads(note)
        return f"pid {int(data['pid'])}, since {datetime.fromisoformat(data['since']):%Y-%m-%d %H:%M:%S %Z}"
    except (ValueError, KeyError, TypeError):  # it just started, or died while writing
        return "its pid is not known"


def webhook_secret(state_dir: Path) -> str:
    """The secret of the local webhook, made at the first call: `whsec_` and 32 random bytes in base64.

    Raises:
        LocalError: the file cannot be made or read, or others may read it.
    """
    path = state_dir / _SECRET_FILE
    try:
        # Written whole under another name first: a crash between the two never leaves an empty secret.
        if not path.exists():
            draft = state_dir / f".{_SECRET_FILE}.{os.getpid()}"
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(fd, "w", encoding="ascii") as file:
                file.write("whsec_" + base64.b64encode(secrets.token_bytes(32)).decode() + "\n")
            draft.rename(path)
        if path.stat().st_mode & 0o077:
            raise LocalError(f"{path} can be read by others: delete it, and newsquake makes a new one.")
        return path.read_text("ascii").strip()
    except OSError as exc:
        raise LocalError(f"Cannot keep the webhook's secret in {path}: {exc.strerror}.") from exc
