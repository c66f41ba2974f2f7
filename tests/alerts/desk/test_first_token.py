"""The first token is shown to one, once, and whatever fails meanwhile nobody is kept out for good."""

from __future__ import annotations

from typing import Any

import pytest
from redis import ConnectionError as LostError
from redis import Redis

from alerts.desk.auth import AuthError, Tokens

STARTED = "nq:{desk}:started"


class Failing(Tokens):
    """Whose calls of Redis, numbered from 1, fail: `before` the server did what was asked, or `after` that."""

    def __init__(self, redis: Redis, *, before: int = 0, after: int = 0) -> None:
        super().__init__(redis)
        usual, calls = self._first, list[int]()

        def first(**call: Any) -> Any:
            calls.append(1)
            if len(calls) == before:
                raise LostError("gone")
            answer = usual(**call)
            if len(calls) == after:
                raise LostError("no answer")
            return answer

        self._first: Any = first


def first(tokens: Tokens) -> str | None:
    """What is shown."""
    shown: list[str] = []
    assert tokens.first(shown.append) == bool(shown)
    return shown[0] if shown else None


def test_it_is_made_once_even_when_all_are_revoked(store: Redis) -> None:
    token = first(Tokens(store))
    assert token is not None
    assert Tokens(store).check(token) is not None
    assert first(Tokens(store)) is None
    assert store.ttl(STARTED) == -1
    assert Tokens(store).revoke("analyst")
    assert first(Tokens(store)) is None


@pytest.mark.parametrize("there", ["a token", "what a version before wrote"])
def test_where_there_was_one_none_is_shown(store: Redis, there: str) -> None:
    if there == "a token":
        Tokens(store).add("jo", "reader")
    else:
        store.set(STARTED, b"1")
    assert first(Tokens(store)) is None
    assert [token.name for token in Tokens(store).list()] == (["jo"] if there == "a token" else [])


def test_a_client_that_calls_again_for_want_of_an_answer_gets_it(store: Redis) -> None:
    tokens = Tokens(store)
    usual: Any = tokens._first
    tokens._first = lambda **call: (usual(**call), usual(**call))[1]  # type: ignore[assignment]  # as redis-py repeats calls
    token = first(tokens)
    assert token is not None
    assert tokens.check(token) is not None
    assert first(Tokens(store)) is None


def test_one_that_is_kept_without_an_answer_has_been_seen(store: Redis) -> None:
    shown: list[str] = []
    with pytest.raises(LostError):
        Failing(store, after=2).first(shown.append)
    (token,) = shown
    assert Tokens(store).check(token) is not None
    assert first(Tokens(store)) is None


@pytest.mark.parametrize(("failure", "seen"), [({"after": 1}, 0), ({"before": 2}, 1)], ids=["claimed", "shown"])
def test_when_it_was_not_kept_another_is_shown_a_minute_later(store: Redis, failure: dict[str, int], seen: int) -> None:
    shown: list[str] = []
    with pytest.raises(LostError):
        Failing(store, **failure).first(shown.append)
    assert len(shown) == seen
    assert Tokens(store).list() == []
    assert first(Tokens(store)) is None  # another process may be about to show its own
    assert 0 < store.ttl(STARTED) <= 60
    store.delete(STARTED)  # a minute later
    token = first(Tokens(store))
    assert token is not None
    assert Tokens(store).check(token) is not None
    assert all(Tokens(store).check(each) is None for each in shown)


def test_nothing_is_kept_that_could_not_be_shown(store: Redis) -> None:
    def gone(_: str) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        Tokens(store).first(gone)
    assert Tokens(store).list() == []
    store.delete(STARTED)
    assert first(Tokens(store)) is not None


def test_of_two_at_once_one_shows_it(store: Redis) -> None:
    found: list[str | None] = []
    assert Tokens(store).first(lambda _: found.append(first(Tokens(store))))
    assert found == [None]


def test_who_took_too_long_to_show_it_says_that_it_is_none(store: Redis) -> None:
    shown: list[str] = []

    def slow(token: str) -> None:
        shown.append(token)
        store.delete(STARTED)  # a minute passes
        shown.append(first(Tokens(store)) or "")

    with pytest.raises(AuthError, match="another process has made the first token"):
        Tokens(store).first(slow)
    assert [Tokens(store).check(token) is not None for token in shown] == [False, True]
