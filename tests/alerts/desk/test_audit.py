"""The audit log is read to its end, whatever comes meanwhile."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from alerts.alert import Alert
from alerts.audit import Audit, append, entry

_AUDIT = "/api/v1/audit"


@pytest.fixture
def written(served: Any, store: Redis) -> list[str]:
    """Entries of all three streams, many of them of one millisecond; what was done, the newest first."""
    with store.pipeline() as pipe:
        for number in range(30):
            append(pipe, entry("" if number % 3 == 0 else "jo", f"n{number}"))
        pipe.execute()
    for number in range(30, 40):
        store.xadd("nq:{alerts}:audit", {"entry": b'{"at":"2020-01-01T00:00:00Z","who":"jo","what":"n%d"}' % number})
    return [each.what for each in Audit(store).last(100)]


def _parts(client: Any, limit: int) -> Iterator[dict[str, Any]]:
    after = ""
    while True:
        part = client.get(_AUDIT, params={"limit": limit, "after": after}).json()
        yield part
        after = part["next"]
        if not after:
            return


@pytest.mark.parametrize("limit", [1, 3, 7, 40, 100])
def test_it_comes_in_parts_without_gaps_or_repeats(served: Any, written: list[str], limit: int) -> None:
    assert sorted(written) == sorted(f"n{number}" for number in range(40))
    parts = list(_parts(served.client, limit))
    assert [each["what"] for part in parts for each in part["entries"]] == written
    assert len({each["id"] for part in parts for each in part["entries"]}) == 40
    assert max(len(part["entries"]) for part in parts) == min(limit, 40)
    assert len(parts) == -(-40 // limit)


def test_new_entries_move_nothing(served: Any, written: list[str], store: Redis) -> None:
    audit, found = Audit(store), []
    for part in _parts(served.client, 4):
        found += [each["what"] for each in part["entries"]]
        audit.write(entry("jo", "new"))
        audit.write(entry("", "new"))
        store.xadd("nq:{alerts}:audit", {"entry": b'{"at":"2020-01-01T00:00:00Z","who":"jo","what":"new"}'})
    assert found == written


def test_an_entry_that_is_kept_no_more_still_says_where_to_go_on(served: Any, written: list[str], store: Redis) -> None:
    first = served.client.get(f"{_AUDIT}?limit=5").json()
    letter, _, id_ = first["next"].partition("-")
    key = {"a": "nq:{alerts}:audit", "d": "nq:{desk}:audit", "r": "nq:{desk}:audit:refused"}[letter]
    assert store.xdel(key, id_) == 1
    rest = served.client.get(_AUDIT, params={"after": first["next"]}).json()
    assert [each["what"] for each in rest["entries"]] == written[5:]
    assert rest["next"] == ""


def test_what_cannot_be_read_is_counted_and_does_not_end_the_list(
    served: Any, written: list[str], store: Redis
) -> None:
    for _ in range(5):
        store.xadd("nq:{desk}:audit", {"entry": b'{"at":"2020-01-01T00:00:00","who":"jo","what":"no zone"}'})
    parts = list(_parts(served.client, 3))
    assert [each["what"] for part in parts for each in part["entries"]] == written
    assert sum(part["unreadable"] for part in parts) == 5
    page = served.client.get("/audit?limit=3").text
    assert "3 more cannot be read" in page
    assert ">Older</a>" in page


@pytest.mark.parametrize("after", ["x", "a-1", "a-0-0", f"a-{'9' * 20}-0", "z-1-1", "a-1-1\n", "a-1-1;"])
def test_a_place_that_is_none_is_refused(served: Any, after: str) -> None:
    assert served.client.get(_AUDIT, params={"after": after}).status_code == 422
    assert served.client.get("/audit", params={"after": after}).status_code == 200


def test_the_page_leads_to_what_is_older_and_back(served: Any, written: list[str], put: Callable[..., Alert]) -> None:
    address, seen, page = "/audit?limit=15", [], ""
    while address:
        page = served.client.get(address).text
        seen += re.findall(r"<td>(n\d+)</td>", page)
        older = re.search(r'<a href="(\?[^"]+)" rel="next">Older</a>', page)
        address = f"/audit{older[1].replace('&amp;', '&')}" if older else ""
    assert seen == written
    assert '<a href="?limit=15">Newest</a>' in page
    assert served.reader.get("/audit").status_code == served.reader.get(_AUDIT).status_code == 403


def test_what_comes_while_the_first_part_is_read_is_on_a_page(store: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the streams read one after the other, a later entry of the second could push an earlier of the first out."""
    audit, usual, came = Audit(store), Redis.xrevrange, list[str]()

    def xrevrange(client: Any, key: Any, *args: Any, **kwargs: Any) -> Any:
        answer = usual(client, key, *args, **kwargs)
        if len(came) < 3:
            came.append(key)
            store.xadd("nq:{alerts}:audit", {"entry": b'{"at":"2020-01-01T00:00:00Z","who":"jo","what":"first"}'})
            append(store, entry("jo", "second"))
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(Redis, "xrevrange", xrevrange)
        part = audit.part(2)
    read = [each.what for each in part.entries]
    while part.next:
        part = audit.part(2, part.next)
        read += [each.what for each in part.entries]
    every = [each.what for each in audit.last()]
    assert read == every[-len(read) :]
