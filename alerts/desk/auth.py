"""Who may use the desk: tokens, kept as scrypt digests, and sessions in Redis.

A token is `nqd_<id>_<secret>`, with 256 random bits in the secret. It is shown when it is made and never again. A
session is named by a random cookie, of which Redis holds the SHA-256, so that who reads Redis cannot take one over.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from importlib.resources import files
from ipaddress import IPv6Address, IPv6Network
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from alerts.life import SYSTEM_REFUSED, is_system
from alerts.records import UNREADABLE

if TYPE_CHECKING:
    from redis import Redis

log = logging.getLogger(__name__)

Role = Literal["reader", "analyst"]
ROLES: tuple[Role, ...] = ("reader", "analyst")

_PREFIX = "nq:{desk}:"
_TOKENS, _STARTED = f"{_PREFIX}tokens", f"{_PREFIX}started"
_TOKEN = re.compile(r"nqd_([0-9a-f]{12})_([A-Za-z0-9_-]{43})\Z")
_NAME = re.compile(r"[\w.@+ -]{1,64}\Z")
_SCRYPT = {"n": 2**14, "r": 8, "p": 1, "dklen": 32}
_LONGEST_S = 7 * 86_400
_UNUSED_S = 300
_CLAIM_S = 60
_BELIEVED = 1_000


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who is there. `csrf` must come with each change that a cookie's session makes; with a token it is empty."""

    name: str
    role: Role
    csrf: str = ""
    by_proxy: bool = False


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a token."""

    id: str
    name: str
    role: Role
    salt: bytes
    digest: bytes
    created_at: float


class _Session(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    role: Role
    csrf: str
    began_at: float
    token: str  # its id; empty when a proxy signed in


class AuthError(ValueError):
    """A token cannot be made; the message says why."""


_token = msgspec.json.Decoder(Token)
_session = msgspec.json.Decoder(_Session)


def is_name(text: str) -> bool:
    """Say whether people may be called so: here, and in the audit log."""
    return bool(_NAME.match(text)) and text == text.strip()


class Tokens:
    """Makes, lists, revokes and checks tokens. Every method raises `redis.RedisError` when the server fails."""

    def __init__(self, redis: Redis, clock: Callable[[], float] = time.time) -> None:
        self._redis, self._clock = redis, clock
        self._first = redis.register_script(files("alerts.desk").joinpath("first.lua").read_text("utf-8"))
        self._believed: OrderedDict[bytes, Token] = OrderedDict()
        self._lock, self._asking = Lock(), Lock()

    def add(self, name: str, role: Role) -> str:
        """Return a new token; it is not kept and cannot be shown again.

        Raises:
            AuthError: the name cannot be used or has a token.
        """
        if not is_name(name):
            raise AuthError("a name is 1 to 64 letters, digits, blanks or . @ + - _")
        if is_system(name):
            raise AuthError(SYSTEM_REFUSED)
        if any(token.name.casefold() == name.casefold() for token in self.list()):
            raise AuthError(f"{name} has a token; revoke it first")
        text, token = self._made(name, role)
        self._redis.hset(_TOKENS, token.id, msgspec.json.encode(token))
        return text

    def _made(self, name: str, role: Role) -> tuple[str, Token]:
        """Return a token as it is shown, and what is kept of it."""
        id_, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        salt = secrets.token_bytes(16)
        token = Token(id=id_, name=name, role=role, salt=salt, digest=_digest(secret, salt), created_at=self._clock())
        return f"nqd_{id_}_{secret}", token

    def first(self, show: Callable[[str], None]) -> bool:
        """Make a token for `analyst` when none was ever made here, and `show` it; return whether that was so.

        Of several processes one does. It is shown first and kept then: whatever fails between, none is kept that nobody
        has seen. When it was not kept, the first process to ask a minute later makes another.

        Raises:
            AuthError: it took so long to show it that another process has made the first one.
        """
        if self._redis.hlen(_TOKENS):
            return False
        text, token = self._made("analyst", "analyst")
        keys = [_TOKENS, _STARTED]
        if not self._first(keys=keys, args=[token.id, _CLAIM_S, ""]):
            return False
        show(text)
        if not self._first(keys=keys, args=[token.id, _CLAIM_S, msgspec.json.encode(token)]):
            raise AuthError("another process has made the first token meanwhile; the one shown here is none")
        return True

    def list(self) -> list[Token]:
        """Return all tokens, the oldest first, without those that cannot be read, with which nobody gets in."""
        raws: Any = self._redis.hgetall(_TOKENS)
        found = [token for id_, raw in raws.items() if (token := _token_of(id_, raw)) is not None]
        return sorted(found, key=lambda token: token.created_at)

    def revoke(self, name: str) -> bool:
        """Remove the token of `name`, and with it all its sessions; return whether there was one."""
        ids = [token.id for token in self.list() if token.name.casefold() == name.casefold()]
        return bool(ids and self._redis.hdel(_TOKENS, *ids))

    def get(self, id_: str) -> Token | None:
        """Return the token with that id, None when there is none that can be read."""
        raw: Any = self._redis.hget(_TOKENS, id_)
        return None if raw is None else _token_of(id_, raw)

    def believed(self, text: str) -> Token | None:
        """Return the token that `text` is, when scrypt said so before: of the last 1,000 tokens."""
        known = hashlib.sha256(text.encode()).digest()
        with self._lock:
            held = self._believed.get(known)
            if held is None:
                return None
            self._believed.move_to_end(known)
        return held if self.get(held.id) == held else None

    def check(self, text: str) -> Token | None:
        """Return the token that `text` is, None when it is none. scrypt is asked once a token."""
        match = _TOKEN.match(text)
        if match is None:
            return None
        token = self.get(match[1])
        if token is None:
            return None
        with self._asking:  # scrypt takes 16 MB: one at a time, however many ask at once
            if self.believed(text) is not None:
                return token
            if not hmac.compare_digest(_digest(match[2], token.salt), token.digest):
                return None
            with self._lock:
                self._believed[hashlib.sha256(text.encode()).digest()] = token
                while len(self._believed) > _BELIEVED:
                    self._believed.popitem(last=False)
        return token


class Sessions:
    """Sessions of browsers. Every method raises `redis.RedisError` when the server cannot answer."""

    def __init__(self, redis: Redis, tokens: Tokens, idle_s: float, clock: Callable[[], float] = time.time) -> None:
        self._redis, self._tokens, self._idle_s, self._clock = redis, tokens, int(idle_s), clock

    def begin(self, name: str, role: Role, token: str = "") -> tuple[str, Identity]:
        """Return the cookie of a new session, and who it is; `token` is the id of the one signed in with.

        A session without one, which a proxy's word began, is kept for 5 minutes until it is used.
        """
        cookie = secrets.token_urlsafe(32)
        session = _Session(name=name, role=role, csrf=secrets.token_urlsafe(32), began_at=self._clock(), token=token)
        keep_s = self._idle_s if token else min(self._idle_s, _UNUSED_S)
        self._redis.set(_key(cookie), msgspec.json.encode(session), ex=keep_s)
        return cookie, Identity(name=name, role=role, csrf=session.csrf, by_proxy=not token)

    def is_first(self, name: str) -> bool:
        """Say whether this was not asked of that name within `idle_s`."""
        return bool(self._redis.set(f"{_PREFIX}seen:{name}", b"1", nx=True, ex=self._idle_s))

    def get(self, cookie: str, *, used: bool = True) -> Identity | None:
        """Return whose session it is, None when it has ended; when it is `used` it is kept for another `idle_s`."""
        raw: Any = self._redis.getex(_key(cookie), ex=self._idle_s) if used else self._redis.get(_key(cookie))
        if raw is None:
            return None
        try:
            session = _session.decode(raw)
        except UNREADABLE as exc:
            log.error("a session cannot be read and is ended (%s)", exc)
            self.end(cookie)
            return None
        if session.token:
            token = self._tokens.get(session.token)
            gone = token is None or token.role != session.role
        else:
            gone = False
        if gone or self._clock() - session.began_at > _LONGEST_S:
            self.end(cookie)
            return None
        return Identity(name=session.name, role=session.role, csrf=session.csrf, by_proxy=not session.token)

    def end(self, cookie: str) -> None:
        """End a session."""
        self._redis.delete(_key(cookie))


class Limiter:
    """Counts attempts by address in Redis, so that several desks count together."""

    def __init__(self, redis: Redis, most: int, clock: Callable[[], float] = time.time) -> None:
        self._redis, self._most, self._clock = redis, most, clock

    def blocked(self, address: str) -> bool:
        """Say whether the next attempt would be beyond the limit of this minute, without counting one."""
        raw: Any = self._redis.get(self._key(address))
        return int(raw or 0) >= self._most

    def allows(self, address: str) -> bool:
        """Count an attempt; say whether it is within the limit of this minute."""
        key = self._key(address)
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.incr(key)
            pipe.expire(key, 120)
            count, _ = pipe.execute()
        return int(count) <= self._most

    def _key(self, address: str) -> str:
        name = hashlib.sha256(_network(address).encode()).hexdigest()[:32]
        return f"{_PREFIX}logins:{name}:{int(self._clock() // 60)}"


def _network(address: str) -> str:
    """Return the address to count by: of IPv6 the network, as who has one address has all 2**64 of it."""
    try:
        ip = IPv6Address(address)
        return str(ip.ipv4_mapped or IPv6Network((int(ip), 64), strict=False))
    except ValueError:
        return address


def _token_of(id_: bytes | str, raw: bytes) -> Token | None:
    try:
        return _token.decode(raw)
    except UNREADABLE as exc:
        log.error("token %r cannot be read, and is none (%s)", id_, exc)
        return None


def _digest(secret: str, salt: bytes) -> bytes:
    return hashlib.scrypt(secret.encode(), salt=salt, **_SCRYPT)


def _key(cookie: str) -> str:
    return f"{_PREFIX}session:{hashlib.sha256(cookie.encode()).hexdigest()}"
