"""Alerts in Redis: each with its life and history, the log of all transitions, and the engine's snapshot.

Every change compares before it writes, so that people, the leader and its timers can change one alert at the same
moment. All keys carry the hash tag `{alerts}`, the outbox's too.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec
from redis.exceptions import ResponseError, WatchError

from alerts import audit
from alerts.alert import Alert, decode, encode
from alerts.audit import Entry
from alerts.life import AlertView, Life, Transition, follow, revised, spare
from alerts.records import name_of
from alerts.stored import PREFIX, alert_of, keys_of, life_of, place_of, step_of, view_of

if TYPE_CHECKING:
    from redis import Redis

log = logging.getLogger(__name__)

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
RECENT, STARTED = f"{PREFIX}recent", f"{PREFIX}started"
"""Sorted sets of the alerts that are kept: by the time of their last change, and by that at which they fired."""
_OPEN = f"{PREFIX}open"
_AFTER = f"{PREFIX}after"
"""A set: alerts that people have reopened after their detector's end. The others that are open are in `_OPEN`."""
_UNSURE = f"{PREFIX}unsure"
"""A set: alerts put back as firing (`restore`), of which it is not known yet whether their surge goes on."""
_LOG_LENGTH = 100_000
_TRIES, _TOGETHER = 50, 100
_LATEST_S = 253_370_764_800.0  # the year 9999: what lies beyond cannot be written as a time


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

    def steps(self, alert_ids: Iterable[str], change: Callable[[AlertView], Transition | None]) -> Iterator[Transition]:
        """Add to each of several alerts the transition that `change` makes of it; yield each that is stored.

        It is done as it is read from, 100 alerts in a few calls.

        Raises:
            FencedError: another process leads.
            BusyError: others change some of them all the time.
        """
        ids = list(alert_ids)
        for first in range(0, len(ids), _TOGETHER):
            yield from self._together(ids[first : first + _TOGETHER], change)

    def _together(self, ids: Sequence[str], change: Callable[[AlertView], Transition | None]) -> Iterator[Transition]:
        for _ in range(_TRIES):
            asked: list[tuple[str, Transition]] = []
            with self._redis.pipeline(transaction=False) as pipe:
                for each, (view, before) in self._read_each(ids).items():
                    step = None if view is None else change(view)
                    if view is not None and step is not None:
                        keys, arguments = self._call(view, before, view.alert, follow(view.life, step), [step])
                        self._write(keys=keys, args=arguments, client=pipe)
                        asked.append((each, step))
                answers = pipe.execute(raise_on_error=False) if asked else []
            ids = []
            for (each, step), answer in zip(asked, answers, strict=True):
                if not answer:
                    ids.append(each)  # somebody was faster
                elif not isinstance(answer, Exception):
                    yield step
            if failed := [each for each in answers if isinstance(each, Exception)]:  # all that was stored is told of
                raise fenced(failed[0]) if isinstance(failed[0], ResponseError) else failed[0]
            if not ids:
                return
        raise BusyError(f"alerts {', '.join(ids)} are being changed by others all the time")

    def restore(self, view: AlertView) -> bool:
        """Put back an alert that was lost, in whole or in part; return whether it was. It is no news to anybody."""
        alert, life, steps = view.alert, view.life, view.transitions
        arguments: list[Any] = [encode(alert), msgspec.json.encode(life), alert.id, place_of(alert, life)]
        arguments += [repr(steps[-1].at.timestamp()), KEEP_S, life.transitions, repr(alert.started_at.timestamp())]
        arguments += map(msgspec.json.encode, steps)
        keys = [*keys_of(alert.id), _OPEN, _AFTER, RECENT, BOOK, _UNSURE, STARTED]
        return bool(self._restore(keys=keys, args=arguments))

    def unsure(self) -> list[bytes]:
        """Return the ids of the alerts put back as firing of which it is not known yet whether their surge goes on."""
        found: Any = self._redis.smembers(_UNSURE)
        return list(found)

    def is_sure(self, view: AlertView) -> bool:
        """Say whether an alert that fires for its detector is known to."""
        return view.alert.status == "resolved" or not self._redis.sismember(_UNSURE, view.alert.id)

    def reconciled(self, ids: Iterable[bytes]) -> None:
        """Write down that it is known of these, as `unsure` gave them, whether their surge goes on."""
        if known := list(ids):
            self._redis.srem(_UNSURE, *known)

    def _change(
        self,
        alert_id: str,
        change: Callable[[AlertView | None], tuple[Alert, Sequence[Transition]] | None],
        note: Entry | None = None,
    ) -> tuple[Transition, ...] | None:
        for _ in range(_TRIES):
            view, before = self._read(alert_id)
            if view is None and before and self._redis.exists(keys_of(alert_id)[0]):
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
            keys, arguments = self._call(view, before, alert, life, steps, note)
            try:
                if self._write(keys=keys, args=arguments):
                    return tuple(steps)
            except ResponseError as exc:
                raise fenced(exc) from exc
        raise BusyError(f"alert {alert_id} is being changed by others all the time")

    def _call(
        self,
        view: AlertView | None,
        before: bytes,
        alert: Alert,
        life: Life,
        steps: Sequence[Transition],
        note: Entry | None = None,
    ) -> tuple[list[str], list[Any]]:
        """Return the keys and arguments by which `store.lua` stores what becomes of an alert that stood at `view`."""
        keys = [FENCE, *keys_of(alert.id), _OPEN, _AFTER, RECENT, LOG, audit.ALERTS, _UNSURE, STARTED]
        life = msgspec.structs.replace(life, revision=alert.revision)
        fresh = b"" if view is not None and alert is view.alert else encode(alert)
        arguments: list[Any] = [self._token(), before, fresh, msgspec.json.encode(life), alert.id]
        arguments += [place_of(alert, life), repr(time.time()), KEEP_S, _LOG_LENGTH, audit.encoded(note), audit.MOST]
        gone = spare([*(view.transitions if view else ()), *steps])
        arguments += [msgspec.msgpack.encode(gone), repr(alert.started_at.timestamp())]
        arguments += map(msgspec.json.encode, steps)
        return keys, arguments

    def _read(self, alert_id: str) -> tuple[AlertView | None, bytes]:
        """Return an alert with its life, None for none, and the life as it stands there."""
        pipe = self._redis.pipeline(transaction=True)
        alert_key, life_key, history_key = keys_of(alert_id)
        pipe.mget(alert_key, life_key)
        pipe.lrange(history_key, 0, -1)
        (alert, life), history = pipe.execute()
        return view_of(alert_id, alert, life, history), life or b""

    def view(self, alert_id: str) -> AlertView | None:
        """Return an alert with its life and history, None when there is none (any more)."""
        return self._read(alert_id)[0]

    def views(self, *, open: bool = True, limit: int = 1_000) -> list[AlertView]:
        """Return the alerts that are not resolved, or all that changed in the last 90 days, the newest first."""
        if open:
            found = [view for view in self.find(self._ids()).values() if view.life.state != "resolved"]
        else:
            recent: Any = self._redis.zrevrange(RECENT, 0, limit - 1)
            found = list(self.find(map(name_of, recent)).values())
        return sorted(found, key=lambda view: (view.alert.started_at, view.alert.id), reverse=True)[:limit]

    def find(self, ids: Iterable[str]) -> dict[str, AlertView]:
        """Return those of these that are alerts, each with its life and history."""
        return {each: view for each, (view, _) in self._read_each(ids).items() if view is not None}

    def _read_each(self, ids: Iterable[str]) -> dict[str, tuple[AlertView | None, bytes]]:
        """Return of each alert what `_read` does; its history may be younger than its life."""
        wanted = list(dict.fromkeys(ids))
        with self._redis.pipeline(transaction=False) as pipe:
            for each in wanted:
                alert_key, life_key, history_key = keys_of(each)
                pipe.mget(alert_key, life_key)
                pipe.lrange(history_key, 0, -1)
            answers = iter(pipe.execute())
        stored = zip(wanted, answers, answers, strict=True)
        return {each: (view_of(each, alert, life, history), life or b"") for each, (alert, life), history in stored}

    def _ids(self) -> list[str]:
        found: Any = self._redis.sunion([_OPEN, _AFTER])
        return sorted(map(name_of, found))

    def lives(self) -> list[Life]:
        """Return the lives of the alerts that are not resolved."""
        ids = self._ids()
        found: Any = self._redis.mget([keys_of(each)[1] for each in ids]) if ids else []
        lives = [life_of(each, raw) for each, raw in zip(ids, found, strict=True)]
        return [life for life in lives if life is not None and life.state != "resolved"]

    def get(self, alert_id: str) -> Alert | None:
        """Return the alert's last revision, None when there is none (any more)."""
        raw: Any = self._redis.get(keys_of(alert_id)[0])
        return None if raw is None else decode(raw)

    def names(self, ids: Iterable[str]) -> dict[str, str]:
        """Return the names of those of these that are alerts."""
        wanted = sorted(ids)
        raws: Any = self._redis.mget([keys_of(each)[0] for each in wanted]) if wanted else []
        found = [alert_of(each, raw) for each, raw in zip(wanted, raws, strict=True)]
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
            pipe.watch(FENCE, *keys_of(alert_id))
            self.check_lead()
            view = self.view(alert_id)
            there: Any = self._redis.exists(*keys_of(alert_id)[:2])
            if there < 2 or (view is not None and place_of(view.alert, view.life) != "after"):
                pipe.multi()
                pipe.srem(_AFTER, alert_id)
                pipe.execute()

    def forget_gone(self) -> None:
        """Count what is gone, expired or removed by hand, no more among the alerts that fire.

        Raises:
            FencedError: another process leads.
        """
        fire: Any = self._redis.smembers(_OPEN)
        with self._redis.pipeline(transaction=False) as pipe:
            for each in fire:
                pipe.exists(keys_of(name_of(each))[0])
            there = pipe.execute()
        for each in (each for each, stands in zip(fire, there, strict=True) if not stands):
            key = keys_of(name_of(each))[0]
            with contextlib.suppress(WatchError), self._redis.pipeline() as pipe:  # it has come back
                pipe.watch(FENCE, key)
                self.check_lead()
                if not self._redis.exists(key):
                    pipe.multi()
                    pipe.srem(_OPEN, each)
                    pipe.execute()
                    log.warning("alert %s is gone: it fires no more", name_of(each))

    def open(self, *, reopened: bool = False) -> list[Alert]:
        """Return the alerts that fire for their detectors, whatever people made of them, the newest first.

        With `reopened` those that people have reopened after their detector's end, too.
        """
        found_ids: Any = self._redis.sunion([_OPEN] + [_AFTER] * reopened)
        ids = sorted(map(name_of, found_ids))
        raws: Any = self._redis.mget([keys_of(each)[0] for each in ids]) if ids else []
        found = [alert_of(each, raw) for each, raw in zip(ids, raws, strict=True)]
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


def fenced(exc: ResponseError) -> Exception:
    """Return what a script's error means: `FencedError`, or the error itself."""
    return FencedError(str(exc)) if str(exc).startswith("FENCED") else exc
