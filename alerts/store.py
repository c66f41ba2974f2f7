"""Alerts in Redis: each with its life and history, the log of all transitions, and the engine's snapshot.

Every change compares before it writes, so that people, the leader and its timers can change one alert at the same
moment. All keys carry the hash tag `{alerts}`, the outbox's too.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from redis.exceptions import ResponseError, WatchError

from alerts import audit
from alerts.alert import Alert, AlertError, decode, encode
from alerts.audit import Entry
from alerts.life import AlertView, Life, Transition, follow, revised, spare
from alerts.records import UNREADABLE, name_of

if TYPE_CHECKING:
    from redis import Redis

log = logging.getLogger(__name__)
_T = TypeVar("_T")

PREFIX = "nq:{alerts}:"
LOG = f"{PREFIX}log"
"""A stream with one field, `line`: a `Transition` as JSON."""
FENCE = f"{PREFIX}fence"
"""The token of the last process that came to lead; see `alerts.leader`."""
NOW = f"{PREFIX}now_s"
"""What time it is, in Unix seconds, where alerting goes by its items' time (`clock = "event"`); unset elsewhere."""
STATE = f"{PREFIX}state"
"""The engine's snapshot."""
BOOK = f"{PREFIX}dispatch:alerts"
"""A hash of the dispatcher's: alert → what was told of it, empty for one that was put back."""
KEEP_S = 90 * 86_400
_OPEN, _RECENT = f"{PREFIX}open", f"{PREFIX}recent"
_AFTER = f"{PREFIX}after"
"""A set: alerts that people have reopened after their detector's end. The others that are open are in `_OPEN`."""
_LOG_LENGTH = 100_000
_TRIES = 50
_LATEST_S = 253_370_764_800.0  # the year 9999: what lies beyond cannot be written as a time

_lines = msgspec.json.Decoder(Transition)
_lives = msgspec.json.Decoder(Life)


class FencedError(Exception):
    """Another process leads: nothing was written."""


class BusyError(Exception):
    """Others changed the alert each time before this change could be written."""


class AlertStore:
    """Reads and writes alerts. Every method raises `redis.RedisError` when the server cannot answer.

    `token` gives the leader's token, which every write then carries; people's writes have none.
    """

    def __init__(self, redis: Redis, token: Callable[[], str] = str) -> None:
        self._redis = redis
        self._token = token
        self._no_time = b""
        self._write, self._set, self._restore = (
            redis.register_script(files("alerts").joinpath(name).read_text("utf-8"))
            for name in ("store.lua", "fenced.lua", "restore.lua")
        )

    def put(self, alert: Alert, *, silence: str = "") -> tuple[Transition, ...] | None:
        """Store a revision and what it brings; return that, None when that revision or a later one stood already.

        `silence` is the id of one that lies over a new alert.

        Raises:
            FencedError: another process leads.
        """

        def change(view: AlertView | None) -> tuple[Alert, Sequence[Transition]] | None:
            if view is not None and view.life.revision >= alert.revision:
                return None
            return alert, revised(view.life if view else None, alert, silence)

        return self._change(alert.id, change)

    def step(
        self, alert_id: str, change: Callable[[AlertView], Transition | None], note: Entry | None = None
    ) -> tuple[AlertView | None, Transition | None]:
        """Add the transition that `change` makes of an alert, None for none; return the alert before it, and it.

        `change` is asked again when somebody was faster. The alert is None when there is none (any more). With the
        transition `note` goes into the audit log.

        Raises:
            FencedError: another process leads.
        """
        found: list[AlertView | None] = [None]

        def both(view: AlertView | None) -> tuple[Alert, Sequence[Transition]] | None:
            found[0] = view
            step = None if view is None else change(view)
            return None if view is None or step is None else (view.alert, [step])

        made = self._change(alert_id, both, note)
        return found[0], made[0] if made else None

    def restore(self, view: AlertView) -> bool:
        """Put back an alert that was lost, in whole or in part; return whether it was. It is no news to anybody."""
        changed_s = repr(view.transitions[-1].at.timestamp())
        arguments: list[Any] = [encode(view.alert), msgspec.json.encode(view.life), view.alert.id]
        arguments += [_place(view.alert, view.life), changed_s, KEEP_S, view.life.transitions]
        arguments += map(msgspec.json.encode, view.transitions)
        return bool(self._restore(keys=[*_keys(view.alert.id), _OPEN, _AFTER, _RECENT, BOOK], args=arguments))

    def _change(
        self,
        alert_id: str,
        change: Callable[[AlertView | None], tuple[Alert, Sequence[Transition]] | None],
        note: Entry | None = None,
    ) -> tuple[Transition, ...] | None:
        keys = [FENCE, *_keys(alert_id), _OPEN, _AFTER, _RECENT, LOG, audit.ALERTS]
        for _ in range(_TRIES):
            view, before = self._read(alert_id)
            if view is None and before and self._redis.exists(_keys(alert_id)[0]):
                log.error("alert %s stays as it is until a version runs that can read it", alert_id)
                return None  # as new it would fire once more
            changed = change(view)
            if changed is None:
                return None
            alert, steps = changed
            life = view.life if view else None
            for step in steps:
                life = follow(life, step)
            if life is None:
                return None
            life = msgspec.structs.replace(life, revision=alert.revision)
            fresh = b"" if view is not None and alert is view.alert else encode(alert)
            arguments: list[Any] = [self._token(), before, fresh, msgspec.json.encode(life), alert_id]
            arguments += [_place(alert, life), repr(time.time()), KEEP_S, _LOG_LENGTH, audit.encoded(note), audit.MOST]
            gone = spare([*(view.transitions if view else ()), *steps])
            arguments += [msgspec.msgpack.encode(gone), *map(msgspec.json.encode, steps)]
            try:
                if self._write(keys=keys, args=arguments):
                    return tuple(steps)
            except ResponseError as exc:
                raise fenced(exc) from exc
        raise BusyError(f"alert {alert_id} is being changed by others all the time")

    def _read(self, alert_id: str) -> tuple[AlertView | None, bytes]:
        """Return an alert with its life, None for none, and the life as it stands there."""
        pipe = self._redis.pipeline(transaction=True)
        alert_key, life_key, history_key = _keys(alert_id)
        pipe.mget(alert_key, life_key)
        pipe.lrange(history_key, 0, -1)
        (alert, life), history = pipe.execute()
        return _view(alert_id, alert, life, history), life or b""

    def view(self, alert_id: str) -> AlertView | None:
        """Return an alert with its life and history, None when there is none (any more)."""
        return self._read(alert_id)[0]

    def views(self, *, open: bool = True, limit: int = 1_000) -> list[AlertView]:
        """Return the alerts that are not resolved, or all that changed in the last 90 days, the newest first."""
        if open:
            found = [view for view in self._views(self._ids()) if view.life.state != "resolved"]
        else:
            recent: Any = self._redis.zrevrange(_RECENT, 0, limit - 1)
            found = self._views(map(name_of, recent))
        return sorted(found, key=lambda view: (view.alert.started_at, view.alert.id), reverse=True)[:limit]

    def _views(self, ids: Iterable[str]) -> list[AlertView]:
        wanted = list(ids)
        pipe = self._redis.pipeline(transaction=False)
        for each in wanted:
            alert_key, life_key, history_key = _keys(each)
            pipe.mget(alert_key, life_key)
            pipe.lrange(history_key, 0, -1)
        answers = iter(pipe.execute())
        stored = zip(wanted, answers, answers, strict=True)
        found = [_view(each, alert, life, history) for each, (alert, life), history in stored]
        return [view for view in found if view is not None]

    def _ids(self) -> list[str]:
        found: Any = self._redis.sunion([_OPEN, _AFTER])
        return sorted(map(name_of, found))

    def lives(self) -> list[Life]:
        """Return the lives of the alerts that are not resolved."""
        ids = self._ids()
        found: Any = self._redis.mget([_keys(each)[1] for each in ids]) if ids else []
        lives = [_readable(each, raw, _lives.decode) for each, raw in zip(ids, found, strict=True)]
        return [life for life in lives if life is not None and life.state != "resolved"]

    def get(self, alert_id: str) -> Alert | None:
        """Return the alert's last revision, None when there is none (any more)."""
        raw: Any = self._redis.get(_keys(alert_id)[0])
        return None if raw is None else decode(raw)

    def names(self, ids: Iterable[str]) -> dict[str, str]:
        """Return the names of those of these that are alerts."""
        wanted = sorted(ids)
        raws: Any = self._redis.mget([_keys(each)[0] for each in wanted]) if wanted else []
        found = [_readable(each, raw, decode) for each, raw in zip(wanted, raws, strict=True)]
        return {alert.id: alert.name for alert in found if alert}

    def reopened(self) -> list[str]:
        """Return the ids of the alerts that people have reopened after their detector's end, and that are open."""
        found: Any = self._redis.smembers(_AFTER)
        return sorted(map(name_of, found))

    def settle(self, alert_id: str) -> None:
        """Count an alert no more among those reopened, if it is over or gone: another version may have ended it.

        Raises:
            FencedError: another process leads.
        """
        with contextlib.suppress(WatchError), self._redis.pipeline() as pipe:  # the next time, if it changed meanwhile
            pipe.watch(FENCE, *_keys(alert_id))
            self.check_lead()
            view = self.view(alert_id)
            there: Any = self._redis.exists(*_keys(alert_id)[:2])
            if there < 2 or (view is not None and _place(view.alert, view.life) != "after"):
                pipe.multi()
                pipe.srem(_AFTER, alert_id)
                pipe.execute()

    def open(self, *, reopened: bool = False) -> list[Alert]:
        """Return the alerts that fire for their detectors, whatever people made of them, the newest first.

        With `reopened` those that people have reopened after their detector's end, too.
        """
        found_ids: Any = self._redis.sunion([_OPEN] + [_AFTER] * reopened)
        ids = sorted(map(name_of, found_ids))
        raws: Any = self._redis.mget([_keys(each)[0] for each in ids]) if ids else []
        found = [_readable(each, raw, decode) for each, raw in zip(ids, raws, strict=True)]
        return sorted((alert for alert in found if alert), key=lambda alert: alert.started_at, reverse=True)

    def log(self, count: int = 100) -> list[Transition]:
        """Return the transitions among the last `count` entries of the log, the newest first."""
        entries: Any = self._redis.xrevrange(LOG, count=count)
        return [step for entry, fields in entries if (step := step_of(entry.decode(), fields)) is not None]

    def save_state(self, state: bytes) -> None:
        """Replace the engine's snapshot.

        Raises:
            FencedError: another process leads.
        """
        self.set(STATE, state)

    def save_time(self, now_s: float | None) -> None:
        """Say what time alerting goes by, None for that of the wall.

        Raises:
            FencedError: another process leads.
        """
        self.set(NOW, "" if now_s is None else repr(now_s))

    def load_time(self) -> float | None:
        """Return what time alerting goes by, None for that of the wall."""
        raw: Any = self._redis.get(NOW)
        if not raw:
            return None
        with contextlib.suppress(ValueError):
            if 0 <= (now_s := float(raw)) < _LATEST_S:
                return now_s
        if raw != self._no_time:
            self._no_time = raw
            log.error("what stands in %s is no time: %.60r", NOW, raw)
        return None

    def set(self, key: str, value: bytes | str) -> None:
        """Set a key of the leader's.

        Raises:
            FencedError: another process leads.
        """
        try:
            self._set(keys=[FENCE, key], args=[self._token(), value])
        except ResponseError as exc:
            raise fenced(exc) from exc

    def check_lead(self) -> None:
        """Make sure that this process leads still.

        Raises:
            FencedError: another process leads.
        """
        token: Any = self._token()
        if token and self._redis.get(FENCE) != token.encode():
            raise FencedError("another process leads")

    def load_state(self) -> bytes | None:
        """Return the engine's snapshot, None when there is none."""
        raw: Any = self._redis.get(STATE)
        return raw if raw is None else bytes(raw)


def _view(alert_id: str, alert: Any, life: Any, history: Any) -> AlertView | None:
    """Return what is stored of an alert, None when something lacks or cannot be read: one stops not the others."""

    def view(raw: bytes) -> AlertView:
        steps = tuple(_lines.decode(line) for line in history)
        return AlertView(alert=decode(raw), life=_lives.decode(life), transitions=steps)

    return None if life is None else _readable(alert_id, alert, view)


def _readable(alert_id: str, raw: Any, read: Callable[[bytes], _T]) -> _T | None:
    try:
        return None if raw is None else read(raw)
    except (AlertError, *UNREADABLE) as exc:
        log.error("what is stored of alert %s cannot be read and is passed over (%s)", alert_id, exc)
        return None


def step_of(entry: str, fields: Any, level: int = logging.ERROR) -> Transition | None:
    """Return the transition in an entry of the log, None when it holds none: another version's, or another hand's.

    That is said at a level of the log; who looks ahead says it lower, and again when it is the entry's turn.
    """
    try:
        return _lines.decode(fields[b"line"])
    except (*UNREADABLE, KeyError) as exc:
        log.log(level, "entry %s of the log is no transition and is passed over (%r)", entry, exc)
        return None


def fenced(exc: ResponseError) -> Exception:
    """Return what a script's error means: `FencedError`, or the error itself."""
    return FencedError(str(exc)) if str(exc).startswith("FENCED") else exc


def _place(alert: Alert, life: Life) -> str:
    """Return which set an alert belongs into by now."""
    if alert.status == "firing":
        return "open"
    return "" if life.state == "resolved" else "after"


def _keys(alert_id: str) -> tuple[str, str, str]:
    return f"{PREFIX}alert:{alert_id}", f"{PREFIX}life:{alert_id}", f"{PREFIX}history:{alert_id}"
