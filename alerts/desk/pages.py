"""The pages. They work without scripts; with them they stay up to date and act through the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args
from urllib.parse import quote

from fastapi import APIRouter, Request
from jinja2 import Environment
from markupsafe import Markup
from redis import RedisError
from starlette.responses import HTMLResponse, RedirectResponse, Response

from alerts.audit import entry
from alerts.desk import api, series, silencing, together, views
from alerts.desk.auth import Identity
from alerts.desk.deeds import MAX_REASON, Deeds, matchers_of
from alerts.desk.opened import Opened, opened
from alerts.desk.problems import ProblemError, title_of
from alerts.desk.visitors import (
    COOKIE,
    Analyst,
    Form,
    Visitor,
    address_of,
    desk_of,
    known,
    same_site,
    set_cookie,
    whole,
)
from alerts.feedback import topic_of
from alerts.judgement import State
from alerts.life import not_reopened
from alerts.notes import MAX_NOTE
from alerts.silences import silence_over

router = APIRouter(include_in_schema=False)

_PAGE, _LIST = 60, 200
_THEMES = ("light", "dark")
Verb = Literal[
    "acknowledge", "unacknowledge", "resolve", "reopen", "note", "silence", "verdict", "correction", "dismiss"
]
"""What forms ask of an alert."""


def _page(
    request: Request, template: str, who: Identity | None, values: Mapping[str, Any], status: int = 200
) -> HTMLResponse:
    env: Environment = request.app.state.templates
    theme = request.cookies.get("nq_theme", "")
    text = env.get_template(template).render(
        who=who,
        theme=theme if theme in _THEMES else "",
        keys=request.cookies.get("nq_keys") != "off",
        path=request.url.path,
        here=_here(request),
        desk=desk_of(request),
        **{**values, "opened": values.get("opened") or (_opened(request) if who else None)},
    )
    return HTMLResponse(text, status)


def _opened(request: Request) -> Opened:
    """Return how many alerts are open, counted once for all who look."""
    desk = desk_of(request)
    found: Opened = request.app.state.shared.get(("opened", desk.standing()), lambda: opened(desk))
    return found


def _here(request: Request) -> str:
    """Return the address of this page within the desk."""
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def error_page(request: Request, status: int, detail: str, alert: str = "") -> Response:
    """Return the page that says what went wrong; who is not signed in is sent to where they can."""
    if status == 401:
        if request.method != "GET":
            return RedirectResponse("/signin?ended=1", 303)
        after = "" if request.url.path == "/" else f"?next={quote(_here(request))}"
        return RedirectResponse(f"/signin{after}", 303)
    title = title_of(status)
    if detail == title:
        detail = f"{_here(request)[:100]} is no page of the desk." if status == 404 else ""
    values = {"title": title, "detail": detail, "alert": alert}
    try:
        return _page(request, "error.html", known(request), values, status)
    except (RedisError, ProblemError):  # it may be what went wrong
        return _page(request, "error.html", None, values, status)


@router.get("/signin")
def signin_page(request: Request, next: str = "/", ended: str = "") -> Response:
    """Ask for a token; `ended` says that a deed came without a session."""
    problem = "Your session has ended; nothing was done. Sign in again." if ended else ""
    return _page(request, "signin.html", None, {"problem": problem, "next": _inside(next)})


@router.post("/signin")
def signin(request: Request, fields: Form) -> Response:
    """Begin a session."""
    desk, address = desk_of(request), address_of(request)
    after = _inside(fields.get("next", "/"))

    def again(status: int, problem: str, outcome: str) -> Response:
        desk.metrics.logins.labels(outcome=outcome).inc()
        return _page(request, "signin.html", None, {"problem": problem, "next": after}, status)

    if not same_site(request):
        return again(403, "That came from another site; try again here.", "wrong")
    if not desk.limiter.allows(address):
        desk.audit.write(entry("", "sign in refused", detail="too many attempts", address=address))
        return again(429, "Too many attempts. Wait a minute, then try again.", "limited")
    token = desk.tokens.check(fields.get("token", "").strip())
    if token is None:
        desk.audit.write(entry("", "sign in refused", detail="the token is not known", address=address))
        return again(403, "That token is not known here, or it was revoked.", "wrong")
    cookie, who = desk.sessions.begin(token.name, token.role, token.id)
    desk.metrics.logins.labels(outcome="ok").inc()
    desk.audit.write(entry(who.name, "sign in", detail="by token", address=address))
    set_cookie(request, cookie)
    return RedirectResponse(after, 303)


@router.post("/signout")
def signout(request: Request, who: Visitor) -> Response:
    """End the session."""
    desk = desk_of(request)
    desk.sessions.end(request.cookies.get(COOKIE, ""))
    desk.audit.write(entry(who.name, "sign out", address=address_of(request)))
    set_cookie(request, "")
    return RedirectResponse("/signin", 303)


@router.post("/theme")
def theme(request: Request, fields: Form) -> Response:
    """Light, dark or as the system is: kept by the browser."""
    return _kept(fields, "theme", _THEMES)


@router.post("/keys")
def keys(request: Request, fields: Form) -> Response:
    """Whether single keys are shortcuts, which they are not for who dictates: kept by the browser."""
    return _kept(fields, "keys", ("off",))


def _kept(fields: Mapping[str, str], name: str, known: tuple[str, ...]) -> Response:
    """Let the browser keep one of these choices; any other is the usual one."""
    answer = RedirectResponse(_inside(fields.get("next", "/")), 303)
    chosen = fields.get(name, "")
    if chosen in known:
        answer.set_cookie(f"nq_{name}", chosen, max_age=365 * 86_400, samesite="strict", httponly=True)
    else:
        answer.delete_cookie(f"nq_{name}")
    return answer


def _inside(path: str) -> str:
    """Return a path of the desk: nobody is sent elsewhere."""
    plain = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() and path.isascii()
    # The longest name of a series takes some 3,100 characters in an address.
    return path if plain and len(path) < 4_000 and "\\" not in path else "/"


def _one_of(kind: Any, value: str, usual: str) -> Any:
    return value if value in get_args(kind) else usual


@router.get("/")
def now(
    request: Request,
    who: Visitor,
    kind: str = "",
    q: str = "",
    state: str = "",
    order: str = "unusual",
    limit: int = _PAGE,
) -> Response:
    """How all series stand."""
    desk = desk_of(request)
    chosen = {
        "kind": _one_of(views.Kind, kind, ""),
        "q": q[:200],
        "state": state if state in get_args(State) else "",
        "order": _one_of(views.Order, order, "unusual"),
    }
    limit, counted = min(max(limit, 1), 2_000), _opened(request)

    def make() -> Markup:
        found = views.now(desk, chosen["kind"], chosen["q"], chosen["state"], chosen["order"], limit)
        open_alerts = {view.alert.series: view.alert.id for view in desk.store.views(open=True)}
        env: Environment = request.app.state.templates
        values = {"table": found, "chosen": chosen, "limit": limit, "open_alerts": open_alerts, "opened": counted}
        return Markup(env.get_template("now_table.html").render(**values))  # noqa: S704 - the template escapes

    shown = request.app.state.shared.get((desk.standing(), *chosen.values(), limit), make)
    return _page(request, "now.html", who, {"shown": shown, "chosen": chosen, "opened": counted})


@router.get("/series")
def one_series(request: Request, who: Visitor, key: series.Key) -> Response:
    """One series."""
    desk = desk_of(request)
    found, alert, state, problem = series.look(request, key)
    chart = request.app.state.shared.get(
        ("chart", key, state), lambda: views.chart(desk, key, found.name, found.course, alert)
    )
    values = {
        "found": found,
        "problem": problem,
        "chart": chart,
        "open_alerts": {each.series: each.id for each in reversed(found.alerts) if each.state != "resolved"},
        "matcher": series.matcher(key),
        "now": desk.actions.now(),
        "max_reason": MAX_REASON,
    }
    return _page(request, "series.html", who, values)


@router.get("/opened")
def badge(request: Request, who: Visitor) -> Response:
    """How many alerts are open, as the menu of every page shows it: all that most pages renew."""
    macros: Any = request.app.state.templates.get_template("macros.html").module
    return HTMLResponse(macros.badge(_opened(request)))


@router.get("/alerts")
def alerts(
    request: Request, who: Visitor, state: str = "open", q: str = "", order: str = "mine", limit: int = _LIST
) -> Response:
    """The list of alerts."""
    desk = desk_of(request)
    chosen = {
        "state": _one_of(views.Listed, state, "open"),
        "q": q[:200],
        "order": _one_of(views.ListOrder, order, "mine"),
    }
    limit = min(max(limit, 1), views.MOST)
    mine = who.name if chosen["order"] == "mine" else ""
    found = views.alerts(desk, chosen["state"], chosen["q"], limit, who=mine)
    values = {"found": found, "chosen": chosen, "limit": limit, "now": desk.actions.now(), "max_reason": MAX_REASON}
    return _page(request, "alerts.html", who, values)


@router.post("/alerts")
def several(request: Request, who: Analyst, fields: Form) -> Response:
    """Do one thing to the alerts that are ticked, for browsers without scripts, and say what became of each."""
    desk, what = desk_of(request), _one_of(together.What, fields.get("what", ""), "")
    if not what:
        raise ProblemError(422, "Choose what to do: acknowledge, resolve or silence.")
    ids, minutes = together.chosen(fields), silencing.minutes(fields) if what == "silence" else 0
    reason = fields.get("reason", "").strip()[:MAX_REASON] or ("no reason given" if what == "silence" else "")
    told = together.together(desk.store, Deeds(desk, who, address_of(request)), what, ids, reason, minutes)
    return _page(request, "together.html", who, {"told": told})


@router.get("/alerts/{alert_id}")
def alert(request: Request, who: Visitor, alert_id: str) -> Response:
    """One alert."""
    desk = desk_of(request)
    found = views.full(desk, alert_id) if len(alert_id) == 32 else None
    if found is None:
        raise ProblemError(404, "There is no such alert (any more): they are kept for 90 days.")
    now = desk.actions.now()
    if who.role == "analyst" and "x-refresh" not in request.headers:  # somebody looks, not their page by itself
        desk.ranking.note(who.name, "opened", found.alert, topic_of(found.alert), now)
    over = found.life.silence and (silence_over(desk.silences.all(), found.alert, now) or found.life.silence)
    values = {
        "full": found,
        "alert": found.alert,
        "life": found.life,
        "silence": desk.silences.get(over) if over else None,
        "chart": views.chart(desk, found.alert.series, found.alert.name, found.course, found.alert),
        "matcher": series.matcher(found.alert.series),
        "groups": views.grouped(found, who.name),
        "verdicts": [word for word in found.said if word.about == "alert"],
        "related": views.related(desk, found.alert),
        "now": now,
        "can_reopen": not not_reopened(found.view, now, sure=desk.store.is_sure(found.view)),
        "max_reason": MAX_REASON,
        "max_note": MAX_NOTE,
    }
    return _page(request, "alert.html", who, values)


@router.post("/alerts/{alert_id}/{verb}")
def act(
    request: Request,
    who: Analyst,
    fields: Form,
    alert_id: str,
    verb: Verb,
) -> Response:
    """Do what a form asks, for browsers without scripts."""
    deeds, reason = api.deeds_of(request, who), fields.get("reason", "").strip()[:MAX_REASON]
    if verb == "silence":
        end = silencing.end_in(fields, desk_of(request).actions.now())
        deeds.silence_alert(alert_id, end, reason or "no reason given")
    elif verb == "verdict":
        verdict = fields.get("verdict", "")
        deeds.judge(alert_id, verdict if verdict in ("useful", "false_alarm") else "")
    elif verb == "dismiss":
        deeds.dismiss(alert_id)
    elif verb == "note":
        deeds.note(alert_id, fields.get("text", ""))
    elif verb == "correction":
        about: Literal["sentiment", "topic"] = "topic" if fields.get("about") == "topic" else "sentiment"
        label = fields.get("label", "")
        number, title = whole(fields.get("story", ""), 0, 100), fields.get("title", "")
        deeds.correct(alert_id, number, title, about, label, taken_back="taken_back" in fields)
    else:
        deeds.change(verb, alert_id, reason)
    return RedirectResponse(f"/alerts/{alert_id}", 303)


@router.get("/silences")
def silences(request: Request, who: Visitor) -> Response:
    """What is silent, and until when."""
    desk = desk_of(request)
    values = {"silences": desk.silences.all(), "now": desk.actions.now(), "max_reason": MAX_REASON}
    return _page(request, "silences.html", who, values)


@router.post("/silences")
def silence(request: Request, who: Analyst, fields: Form) -> Response:
    """Lay a silence."""
    reason = fields.get("reason", "").strip()[:MAX_REASON]
    if not reason:
        raise ProblemError(422, "Say why, in a few words.")
    end = silencing.end_in(fields, desk_of(request).actions.now())
    api.deeds_of(request, who).silence(matchers_of(fields.get("matchers", "")), end, reason, None)
    return RedirectResponse("/silences", 303)


@router.post("/silences/{silence_id}/expire")
def expire(request: Request, who: Analyst, silence_id: str) -> Response:
    """End a silence."""
    api.deeds_of(request, who).expire(silence_id)
    return RedirectResponse("/silences", 303)


@router.post("/silences/{silence_id}/change")
def change(request: Request, who: Analyst, fields: Form, silence_id: str) -> Response:
    """Give a silence another end."""
    end = silencing.end_in(fields, desk_of(request).actions.now())
    api.deeds_of(request, who).change_silence(silence_id, end)
    return RedirectResponse(_inside(fields.get("next", "/silences")), 303)


@router.get("/stream")
def stream(request: Request, who: Visitor) -> Response:
    """What is being scored."""
    desk = desk_of(request)
    items = desk.stream.since(0, 100)[::-1]
    return _page(request, "stream.html", who, {"items": items, "problem": desk.stream.problem})


@router.get("/health")
def health(request: Request, who: Visitor) -> Response:
    """How the parts are."""
    return _page(
        request,
        "health.html",
        who,
        {"standing": api.standing(request), "precision": desk_of(request).feedback.precision()},
    )


@router.get("/audit")
def audit(request: Request, who: Analyst, limit: int = _LIST, after: str = "") -> Response:
    """Who did what."""
    desk, limit = desk_of(request), min(max(limit, 1), api.MOST_ENTRIES)
    part = desk.audit.part(limit, after)
    names = desk.store.names({entry.target for entry in part.entries if len(entry.target) == 32})
    chosen = {"limit": limit} if limit != _LIST else {}
    return _page(request, "audit.html", who, {"part": part, "names": names, "chosen": chosen, "after": after})
