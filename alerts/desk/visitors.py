"""Who makes a request, and may they: cookie, bearer token or a trusted proxy's word; role; CSRF."""

from __future__ import annotations

import hmac
from ipaddress import ip_address, ip_network
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from fastapi import Depends, Request

from alerts.audit import entry
from alerts.desk.auth import Identity, Role, Token
from alerts.desk.problems import ProblemError
from alerts.desk.state import Desk
from alerts.life import SYSTEM_REFUSED, is_system

COOKIE, CSRF_HEADER, CSRF_FIELD = "nq_session", "x-csrf-token", "csrf"
EVENTS = "/api/v1/events"


def desk_of(request: Request) -> Desk:
    """Return the desk that the application serves."""
    desk: Desk = request.app.state.desk
    return desk


def from_proxy(request: Request) -> bool:
    """Say whether the connection comes from a trusted proxy."""
    networks = desk_of(request).settings.trusted_proxies
    try:
        peer = ip_address(request.client.host if request.client else "")
    except ValueError:  # a Unix socket has no address
        return False
    # A socket for both versions names who comes by IPv4 ::ffff:10.0.0.1.
    peers = {peer, getattr(peer, "ipv4_mapped", None) or peer}
    return any(each in ip_network(network) for network in networks for each in peers)


def address_of(request: Request) -> str:
    """Return whence a request comes: the peer, or whom a trusted proxy names last."""
    peer = request.client.host if request.client else ""
    named = request.headers.getlist("x-forwarded-for")
    if named and from_proxy(request):
        # Some proxies add a line of their own: what stands before the last word is the visitor's to invent.
        return named[-1].rpartition(",")[2].strip()[:64] or peer
    return peer


def is_https(request: Request) -> bool:
    """Say whether the browser speaks TLS, to us or to a trusted proxy."""
    forwarded = request.headers.get("x-forwarded-proto", "") if from_proxy(request) else ""
    return (forwarded or request.url.scheme) == "https"


def set_cookie(request: Request, cookie: str) -> None:
    """Give the browser its session, with whatever is answered; an empty one ends it."""
    parts = [f"{COOKIE}={cookie}", "Path=/", "HttpOnly", "SameSite=Strict"]
    parts += ["Secure"] * is_https(request) + ["Max-Age=0"] * (not cookie)
    request.state.cookie = "; ".join(parts)


async def form(request: Request) -> dict[str, str]:
    """Return the fields of a page's form; empty for everything else.

    Raises:
        ProblemError: it cannot be read.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        return {}
    try:
        text = (await request.body()).decode()
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=1_000, errors="strict")
    except ValueError as exc:
        raise ProblemError(422, "the form cannot be read") from exc
    return dict(pairs)


def whole(text: str, least: int, most: int) -> int:
    """Return a number that stands in a form.

    Raises:
        ProblemError: it is none, or too small or too large.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        raise ProblemError(422, f"A whole number from {least} to {most} is needed.")
    return int(text)


def same_site(request: Request) -> bool:
    """Say whether a browser's request comes from a page of ours, as far as the browser tells."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin, ours = request.headers.get("origin"), desk_of(request).settings.url
    # A proxy may have put another name in `Host` than the browser's.
    hosts = {request.headers.get("host", ""), urlsplit(ours).netloc if ours else ""} - {""}
    try:
        return origin is None or urlsplit(origin).netloc in hosts
    except ValueError:
        return False


def visitor(request: Request, fields: Annotated[dict[str, str], Depends(form)]) -> Identity:
    """Return who makes the request.

    Raises:
        ProblemError: nobody is signed in, or a change lacks the session's CSRF token.
    """
    desk = desk_of(request)
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        token = desk.tokens.believed(text.strip()) or _checked(desk, text.strip(), address_of(request))
        return Identity(name=token.name, role=token.role)
    who = _of_session(request) or _of_proxy(request)
    if who is None:
        raise _unknown("sign in, or send a token as `Authorization: Bearer ...`")
    if request.method not in ("GET", "HEAD", "OPTIONS"):
        given = request.headers.get(CSRF_HEADER) or fields.get(CSRF_FIELD, "")
        if not same_site(request) or not hmac.compare_digest(given.encode(), who.csrf.encode()):
            raise ProblemError(403, "the page is out of date: load it again (CSRF token)")
    return who


def known(request: Request) -> Identity | None:
    """Return who makes a request by a session, for a page that everybody gets."""
    return _of_session(request)


def still_there(request: Request) -> bool:
    """Say whether whoever made a request may go on reading its answer: the session or token has not ended meanwhile."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return desk_of(request).tokens.believed(text.strip()) is not None
    return (_of_session(request) or _named(request)) is not None


def _checked(desk: Desk, text: str, address: str) -> Token:
    """Return the token that a program sends for the first time; a wrong one counts as an attempt to sign in.

    Raises:
        ProblemError: it is wrong, or there were too many wrong ones to look at another.
    """
    if desk.limiter.blocked(address):  # before scrypt, for which all others would wait
        desk.metrics.logins.labels(outcome="limited").inc()
        raise ProblemError(429, "too many attempts to sign in; wait a minute", {"retry-after": "60"})
    token = desk.tokens.check(text)
    if token is None:
        desk.limiter.allows(address)
        desk.metrics.logins.labels(outcome="wrong").inc()
        desk.audit.write(entry("", "sign in refused", detail="the bearer token is not known", address=address))
        raise _unknown("the token is not known")
    return token


def _of_session(request: Request) -> Identity | None:
    desk, cookie = desk_of(request), request.cookies.get(COOKIE, "")
    if not 0 < len(cookie) <= 128:
        return None
    # What a page asks for by itself is no use: a session that nobody uses ends, however long its page stays open.
    used = "x-refresh" not in request.headers and request.url.path != EVENTS
    who, named = desk.sessions.get(cookie, used=used), _named(request)
    # The proxy's word goes before a session, and a session that it began holds no longer than it says so.
    if who is not None and (who.by_proxy or named) and named != (who.name, who.role):
        return None
    return who


def _named(request: Request) -> tuple[str, Role] | None:
    """Return whom a trusted proxy names.

    Raises:
        ProblemError: it names who is no person.
    """
    settings = desk_of(request).settings
    names = request.headers.getlist(settings.proxy_header) if settings.proxy_header else []
    name = names[0].strip()[:64] if len(names) == 1 else ""  # of two one may be the visitor's own
    if not name or not from_proxy(request):
        return None
    if is_system(name):
        raise ProblemError(403, SYSTEM_REFUSED)
    may_act = name in settings.proxy_analysts or "*" in settings.proxy_analysts
    return name, "analyst" if may_act else "reader"


def _of_proxy(request: Request) -> Identity | None:
    named = _named(request)
    if named is None:
        return None
    desk = desk_of(request)
    cookie, who = desk.sessions.begin(*named)
    if desk.sessions.is_first(who.name):  # programs keep no cookie: each of their requests begins a session
        desk.audit.write(entry(who.name, "sign in", detail="by proxy", address=address_of(request)))
    set_cookie(request, cookie)
    return who


def analyst(request: Request, who: Annotated[Identity, Depends(visitor)]) -> Identity:
    """Return who makes the request, when they may act.

    Raises:
        ProblemError: they may only read.
    """
    if who.role != "analyst":
        raise ProblemError(403, "your role may read, not act")
    return who


def _unknown(detail: str) -> ProblemError:
    return ProblemError(401, detail, {"www-authenticate": "Bearer"})


Form = Annotated[dict[str, str], Depends(form)]
Visitor = Annotated[Identity, Depends(visitor)]
Analyst = Annotated[Identity, Depends(analyst)]
