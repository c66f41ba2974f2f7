"""Who may use the desk."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from redis import Redis

from alerts.desk import auth
from alerts.desk.auth import AuthError, Sessions, Tokens


def test_a_token_is_known_until_it_is_revoked_and_redis_does_not_hold_it(store: Redis) -> None:
    tokens = Tokens(store)
    text = tokens.add("Jo Li", "reader")
    found = tokens.check(text)
    assert found is not None
    assert (found.name, found.role) == ("Jo Li", "reader")
    secret = text.split("_", 2)[2].encode()  # which may hold one itself
    assert not any(secret in raw for raw in store.hvals("nq:{desk}:tokens"))
    assert Tokens(store).check(text[:-1] + ("A" if text[-1] != "A" else "B")) is None
    assert tokens.revoke("jo li")
    assert tokens.check(text) is None
    assert not tokens.revoke("jo li")


@pytest.mark.parametrize("text", ["", "nqd_", "nqd_0123456789ab_" + "A" * 43, "x" * 10_000, "nqd_\n"])
def test_rubbish_is_no_token(store: Redis, text: str) -> None:
    Tokens(store).add("jo", "analyst")
    assert Tokens(store).check(text) is None


def test_names_are_plain_and_have_one_token(store: Redis) -> None:
    tokens = Tokens(store)
    tokens.add("jo", "reader")
    for name in ("Jo", "", " jo2", "a<b>", "x" * 65, "a\nb", "newsquake", "NewsQuake"):
        with pytest.raises(AuthError):
            tokens.add(name, "reader")


def test_a_session_ends_without_use_after_a_week_and_with_its_token(store: Redis) -> None:
    now = [1_000_000.0]
    tokens = Tokens(store)
    sessions = Sessions(store, tokens, 3600, lambda: now[0])
    text = tokens.add("jo", "analyst")
    token = tokens.check(text)
    assert token is not None
    cookie, who = sessions.begin("jo", "analyst", token.id)
    assert sessions.get(cookie) == who
    (key,) = store.keys("nq:{desk}:session:*")
    assert cookie.encode() not in key
    store.expire(key, 10)
    sessions.get(cookie, used=False)
    assert store.ttl(key) <= 10
    sessions.get(cookie)
    assert store.ttl(key) > 3_000
    now[0] += 8 * 86_400
    assert sessions.get(cookie) is None
    cookie, _ = sessions.begin("jo", "analyst", token.id)
    tokens.revoke("jo")
    assert sessions.get(cookie) is None


def _signed_in(served: Any, token: str) -> tuple[httpx.Client, str]:
    client = httpx.Client(base_url=served.url, trust_env=False)
    answer = client.post("/signin", data={"token": token, "next": "/alerts"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/alerts")
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict"} <= set(cookie.split("; "))
    csrf = re.search(r'data-csrf="([^"]+)"', client.get("/alerts").text)
    assert csrf
    return client, csrf[1]


def test_a_browser_signs_in_acts_with_its_csrf_token_and_signs_out(served: Any, put: Callable[..., Any]) -> None:
    alert = put()
    client, csrf = _signed_in(served, served.token)
    path = f"/api/v1/alerts/{alert.id}/acknowledge"
    assert client.post(path, json={}).status_code == 403
    assert client.post(path, json={}, headers={"x-csrf-token": "x"}).status_code == 403
    foreign = {"x-csrf-token": csrf, "origin": "https://evil.example"}
    assert client.post(path, json={}, headers=foreign).status_code == 403
    cross = {"x-csrf-token": csrf, "sec-fetch-site": "cross-site"}
    assert client.post(path, json={}, headers=cross).status_code == 403
    own = {"x-csrf-token": csrf, "origin": served.url, "sec-fetch-site": "same-origin"}
    assert client.post(path, json={}, headers=own).status_code == 200
    # The same by a form, for browsers without scripts.
    assert client.post(f"/alerts/{alert.id}/resolve", data={"reason": "over"}).status_code == 403
    assert client.post(f"/alerts/{alert.id}/resolve", data={"reason": "over", "csrf": csrf}).status_code == 303
    assert served.client.get(f"/api/v1/alerts/{alert.id}").json()["life"]["state"] == "resolved"
    for path, said in (("/nowhere", "/nowhere is no page of the desk"), ("/alerts/none", "There is no such alert")):
        page = client.get(path).text
        assert said in page
        assert "Sign out" in page  # who is signed in finds the way on
    assert client.post("/signout", data={"csrf": csrf}).headers["location"] == "/signin"
    assert client.get("/alerts").status_code == 303
    assert "Sign out" not in client.get("/nowhere").text
    late = client.post(f"/alerts/{alert.id}/acknowledge", data={"csrf": csrf}, follow_redirects=True)
    assert "Your session has ended; nothing was done. Sign in again." in late.text
    client.close()


def test_a_reader_reads_and_does_not_act(served: Any, put: Callable[..., Any]) -> None:
    alert = put()
    assert served.reader.get(f"/api/v1/alerts/{alert.id}").status_code == 200
    for path, body in (
        (f"alerts/{alert.id}/acknowledge", {}),
        (f"alerts/{alert.id}/silence", {"minutes": 5, "reason": "x"}),
        (f"alerts/{alert.id}/verdict", {"verdict": "useful"}),
        ("silences", {"matchers": "company=A", "minutes": 5, "reason": "x"}),
    ):
        answer = served.reader.post(f"/api/v1/{path}", json=body)
        assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")
    assert served.reader.get("/api/v1/audit").status_code == 403
    page = served.reader.get(f"/alerts/{alert.id}").text
    assert "Acknowledge" not in page
    assert "False alarm" not in page


def test_nobody_gets_in_without_signing_in(served: Any) -> None:
    with httpx.Client(base_url=served.url, trust_env=False) as client:
        assert client.get("/").headers["location"] == "/signin"
        assert client.get("/alerts?state=all").headers["location"] == "/signin?next=/alerts%3Fstate%3Dall"
        answer = client.get("/api/v1/now")
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert client.get("/api/v1/events").status_code == 401
        for next_ in ("https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)"):
            answer = client.post("/signin", data={"token": served.token, "next": next_})
            assert answer.headers["location"] == "/"


def test_attempts_to_sign_in_are_limited_and_audited(serve: Callable[..., Any]) -> None:
    served = serve(logins_a_minute=3)
    assert served.client.get("/api/v1/me").status_code == 200  # known from now on, whatever others at its address do
    with httpx.Client(base_url=served.url, trust_env=False) as client:
        answers = [client.post("/signin", data={"token": "nqd_wrong"}).status_code for _ in range(5)]
    # A minute may end between two of them.
    assert answers[:3] == [403] * 3
    assert 429 in answers or answers == [403] * 5
    entries = served.client.get("/api/v1/audit").json()["entries"]
    assert {entry["what"] for entry in entries} == {"sign in refused"}
    assert "nqd_wrong" not in str(entries)


def test_wrong_bearer_tokens_are_limited_before_they_cost_anything_and_audited(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve(logins_a_minute=2)
    served.desk.limiter._clock = lambda: 1_000_000.0  # no minute ends between two attempts
    assert served.client.get("/api/v1/me").status_code == 200
    real, asked = auth._digest, []

    def counted(secret: str, salt: bytes) -> bytes:
        asked.append(secret)
        return real(secret, salt)

    monkeypatch.setattr(auth, "_digest", counted)
    wrong = served.token[:-43] + "A" * 43  # of a token that is known, which is what costs
    with served.as_(wrong) as client:
        assert [client.get("/api/v1/me").status_code for _ in range(5)] == [401, 401, 429, 429, 429]
    assert asked == ["A" * 43] * 2
    assert served.reader.get("/api/v1/me").status_code == 429  # from the same address, and not yet known to be right
    entries = served.client.get("/api/v1/audit").json()["entries"]  # known to be right: it costs nothing
    assert [(e["what"], e["who"], e["address"]) for e in entries] == [("sign in refused", "", "127.0.0.1")] * 2
    assert wrong not in str(entries)


def test_a_proxy_is_believed_from_its_address_alone(serve: Callable[..., Any]) -> None:
    trusting = serve(proxy_header="X-User", trusted_proxies=("127.0.0.0/8",), proxy_analysts=("ana",))
    wary = serve(proxy_header="X-User", trusted_proxies=("10.0.0.0/8",), proxy_analysts=("ana",))
    headers = {"x-user": "ana", "x-forwarded-proto": "https"}
    with httpx.Client(base_url=wary.url, headers=headers, trust_env=False) as client:
        assert client.get("/api/v1/me").status_code == 401
    with httpx.Client(base_url=trusting.url, headers=headers, trust_env=False) as client:
        answer = client.get("/api/v1/me")
        assert (answer.json()["name"], answer.json()["role"]) == ("ana", "analyst")
        assert "Secure" in answer.headers["set-cookie"]
        other = client.get("/api/v1/me", headers={"x-user": "bo"})
        assert (other.json()["name"], other.json()["role"]) == ("bo", "reader")
        nobody = client.get("/api/v1/me", headers={"x-user": "Newsquake"})
        assert (nobody.status_code, "by hand" in nobody.json()["detail"]) == (403, True)


def test_every_answer_forbids_what_a_page_of_ours_does_not_do(served: Any) -> None:
    for path in ("/signin", "/", "/nowhere", "/api/v1/me", "/static/desk.js", "/api/v1/nowhere"):
        headers = served.client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers
    assert served.client.get("/alerts").headers["cache-control"] == "no-store"


def test_scrypt_runs_once_for_many_who_ask_at_once(store: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(store)
    text = tokens.add("jo", "reader")
    real, asked = auth._digest, []

    def counted(secret: str, salt: bytes) -> bytes:
        asked.append(secret)
        return real(secret, salt)

    monkeypatch.setattr(auth, "_digest", counted)
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(tokens.check, [text] * 20))
    assert {token.name for token in found if token is not None} == {"jo"}
    assert None not in found
    assert len(asked) == 1
