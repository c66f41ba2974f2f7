import gzip
import itertools
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from ingest import feed as feed_module
from ingest.document import Document, decode, encode
from ingest.feed import FeedError, read_feed
from ingest.fetch import Fetcher, FetchError
from ingest.metrics import IngestMetrics
from ingest.settings import Feed, IngestSettings, RssSettings
from ingest.sources import SourceGoneError, build_sources
from ingest.sources.rss import DEFAULT_FEEDS, HostGate, RssSource, canonical_url, load_feeds

NOW = datetime.now(UTC).replace(microsecond=0)


def item(number: int, extra: str = "", *, guid: bool = True, date: datetime | None = NOW) -> str:
    return (
        f"<item><title>Bank number {number} fails</title><link>https://e.com/{number}</link>"
        + (f"<guid>g{number}</guid>" if guid else "")
        + (f"<pubDate>{format_datetime(date)}</pubDate>" if date else "")
        + f"{extra}</item>"
    )


def rss(*items: str) -> bytes:
    return f'<?xml version="1.0"?><rss version="2.0"><channel><title>t</title>{"".join(items)}</channel></rss>'.encode()


@pytest.fixture
def feed(feed_server: Any, metrics: IngestMetrics) -> Callable[..., RssSource]:
    def make(
        publisher: str = "Example", path: str = "/feed", gate: HostGate | None = None, **options: Any
    ) -> RssSource:
        settings = RssSettings(
            **{"poll_s": 0.01, "fetch_timeout_s": 2.0, "host_gap_s": 0.0, "max_backoff_s": 0.05} | options
        )
        fetcher = Fetcher(
            user_agent="t", timeout_s=settings.fetch_timeout_s, max_bytes=settings.max_bytes, max_redirects=5
        )
        gate = gate or HostGate(settings.host_gap_s)
        return RssSource(
            Feed(name="example", url=feed_server.url + path, publisher=publisher), settings, fetcher, gate, metrics
        )

    return make


@pytest.fixture
def read(feed_server: Any, feed: Callable[..., RssSource]) -> Callable[..., tuple[list[Document], object]]:
    """Give these answers to a source, one a poll; return all documents and the last position."""

    def run(*answers: Any, position: object = None, source: RssSource | None = None) -> tuple[list[Document], object]:
        feed_server.answers = list(answers)
        feed_server.stop.clear()
        documents = []
        for fetched in (source or feed()).run(position, feed_server.stop):
            documents += fetched.documents
            position = fetched.position
        for document in documents:
            assert decode(encode(document)) == document
        return documents, position

    return run


def test_items_of_each_format(read: Any, answer: Any) -> None:
    atom = b"""<feed xmlns="http://www.w3.org/2005/Atom" xml:lang="en-GB"><title>t</title><entry><id>a1</id>
        <title type="html">&lt;b&gt;Fed&lt;/b&gt; holds</title><link href="/rel"/>
        <updated>2026-01-02T03:04:05Z</updated>
        <content type="html">&lt;p&gt;Rates of $JPM stay&lt;/p&gt;</content></entry></feed>"""
    rdf = b"""<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/"
        xmlns:dc="http://purl.org/dc/elements/1.1/"><item rdf:about="https://e.com/r"><title>ECB speaks</title>
        <link>https://e.com/r</link><dc:date>2026-01-02T03:04:05+01:00</dc:date></item></rdf:RDF>"""
    documents, _ = read(answer(body=rss(item(1))), answer(body=atom), answer(body=rdf))
    assert [d.title for d in documents] == ["Bank number 1 fails", "Fed holds", "ECB speaks"]
    assert documents[0].published_at == NOW
    assert documents[0].source == "rss:example"
    assert documents[1].text == "Rates of $JPM stay"
    assert documents[1].companies == ("JPM",)
    assert documents[1].url.startswith("http://127.0.0.1")
    assert documents[1].url.endswith("/rel")
    assert documents[1].language == "en-GB"
    assert documents[2].published_at == datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC)


def test_a_feed_that_misbehaves_in_every_way_loses_and_doubles_nothing(read: Any, answer: Any, counted: Any) -> None:
    def hang_up(handler: Any) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n<rss><chan")
        handler.close_connection = True

    good = [item(n) for n in range(10)]
    latin = rss("<item><guid>l</guid><title>Soci\xe9t\xe9 G\xe9n\xe9rale fails</title></item>").decode()
    latin = latin.replace("?>", " encoding='utf-8'?>")
    answers = [
        answer(body=rss(*good[:3])),
        answer(500),  # 1 server error
        answer(body=b"<html><body>Please log in</body></html>", headers={"Content-Type": "text/html"}),  # 2 not a feed
        answer(raw=hang_up),  # 3 ends in the middle
        answer(body=rss(*good[2:5]).replace(b"</channel></rss>", b"<item><title>oops")),  # 4 broken XML
        answer(503, headers={"Retry-After": "junk"}),  # 5 busy, with nonsense
        answer(
            body=gzip.compress(rss(*good[:6])), headers={"Content-Encoding": "gzip"}
        ),  # 6 compressed, old items again
        answer(302, headers={"Location": "/elsewhere"}),  # 7 moved
        answer(body=rss(*good[6:7])),
        answer(body=gzip.compress(b"\0" * 20_000_000), headers={"Content-Encoding": "gzip"}),  # 8 bomb
        answer(body=latin.encode("latin-1"), headers={"Content-Type": "application/xml"}),  # 9 wrong charset
        answer(body=b""),  # 10 nothing
        answer(body=rss(*reversed(good[5:8]), *good[7:8])),  # 11 another order, one twice
        answer(
            body=b'<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>' + rss(*good[8:9])
        ),  # 12
        answer(404),  # 13 not there for a while
        answer(304),
        answer(body=rss(*good)),
    ]
    documents, _ = read(*answers)
    titles = sorted(d.title for d in documents if not d.title.startswith(("Soci", "oops")))
    assert titles == sorted(f"Bank number {n} fails" for n in range(10))
    assert [d.title for d in documents if d.title.startswith("Soci")] == ["Soci\xe9t\xe9 G\xe9n\xe9rale fails"]
    assert len({d.id for d in documents}) == len(documents)
    for outcome, least in {"refused": 2, "busy": 1, "error": 3, "broken": 1, "not_modified": 1, "too_large": 1}.items():
        assert counted("newsquake_ingest_polls_total", outcome=outcome) >= least, outcome


def test_a_restart_neither_loses_nor_repeats(feed_server: Any, read: Any, answer: Any) -> None:
    first, position = read(
        answer(body=rss(item(2), item(1)), headers={"ETag": '"v1"', "Last-Modified": "Mon, 02 Mar 2026 10:00:00 GMT"})
    )
    second, position = read(answer(304), answer(body=rss(item(3), item(2), item(1))), position=position)
    third, _ = read(answer(body=rss(item(3), item(2))), position=position)
    assert [d.title for d in first] == ["Bank number 1 fails", "Bank number 2 fails"]
    assert [d.title for d in second] == ["Bank number 3 fails"]
    assert third == []
    asked = feed_server.requests[1][2]
    assert asked["if-none-match"] == '"v1"'
    assert asked["if-modified-since"] == "Mon, 02 Mar 2026 10:00:00 GMT"


def test_a_validator_that_no_header_can_carry_is_not_kept(feed_server: Any, read: Any, answer: Any) -> None:
    odd = {"ETag": '"caf\xe9"', "Last-Modified": "2 M\xe4rz"}
    _, position = read(answer(body=rss(item(1)), headers=odd))
    assert position | {"seen": ()} == {"url": feed_server.url + "/feed", "etag": "", "modified": "", "seen": ()}
    stored = position | {"etag": "\u2603", "modified": "2 M\xe4rz\n"}  # kept by an earlier version
    assert [d.title for d in read(answer(body=rss(item(2))), position=stored)[0]] == ["Bank number 2 fails"]


@pytest.mark.parametrize("junk", [17, "x", {"seen": 5}, ["a"], {"url": None}])
def test_a_position_of_another_shape_starts_afresh(read: Any, answer: Any, junk: object) -> None:
    assert len(read(answer(body=rss(item(1))), position=junk)[0]) == 1


def test_what_a_feed_forgot_to_say(read: Any, answer: Any) -> None:
    _, position = read(answer(body=rss()))
    bare = "<item><description>&lt;p&gt;Only a summary of the crash&lt;/p&gt;</description></item>"
    no_id = item(1, guid=False).replace("e.com/1", "e.com/1?utm_source=rss")
    documents, _ = read(
        answer(body=rss(bare, no_id, item(2, date=None), item(3, date=NOW + timedelta(days=900)))),
        answer(body=rss(bare, item(1, guid=False))),
        position=position,
    )
    assert sorted(d.title for d in documents) == [
        "Bank number 1 fails",
        "Bank number 2 fails",
        "Bank number 3 fails",
        "Only a summary of the crash",
    ]
    for document in documents:
        if "number 1" not in document.title:
            assert document.published_at == document.seen_at


def test_items_of_a_first_poll_are_old_news(read: Any, answer: Any) -> None:
    old = [item(n, date=NOW - timedelta(days=3)) for n in range(250)]
    undated = [item(n, date=None) for n in range(250, 400)]
    ancient = [item(n).replace(format_datetime(NOW), "Thu, 01 Jan 1970 00:00:00 GMT") for n in range(400, 500)]
    documents, _ = read(answer(body=rss(*old, *undated, *ancient)))
    assert len(documents) == 500
    assert all(d.seen_at - d.published_at >= timedelta(hours=12) for d in documents)


def test_one_item_in_two_feeds_of_a_publisher_has_one_id(read: Any, answer: Any, feed: Any) -> None:
    one, _ = read(answer(body=rss(item(1))), source=feed(path="/a"))
    same, _ = read(answer(body=rss(item(1))), source=feed(path="/b"))
    other, _ = read(answer(body=rss(item(1))), source=feed(publisher="Another"))
    assert one[0].id == same[0].id != other[0].id
    assert one[0].story == other[0].story


def test_an_item_that_says_nothing_is_counted_and_the_rest_read(read: Any, answer: Any, counted: Any) -> None:
    documents, _ = read(answer(body=rss("<item><guid>e</guid><title>https://t.co/x</title></item>", item(1))))
    assert [d.title for d in documents] == ["Bank number 1 fails"]
    assert counted("newsquake_ingest_dropped_total", reason="empty") == 1


def test_entries_beyond_the_limit_are_counted(read: Any, answer: Any, counted: Any, feed: Any) -> None:
    documents, _ = read(answer(body=rss(*(item(n) for n in range(30)))), source=feed(max_entries=20))
    assert len(documents) == 20
    assert counted("newsquake_ingest_dropped_total", reason="too_many") == 10


def test_a_body_that_names_a_file_is_not_read_as_one(read: Any, answer: Any, tmp_path: Path) -> None:
    secret = tmp_path / "secret.xml"
    secret.write_bytes(rss(item(1)))
    assert read(answer(body=str(secret).encode()))[0] == []


def test_a_harmless_doctype_and_any_usual_encoding_are_read(read: Any, answer: Any) -> None:
    doctype = '<!DOCTYPE rss PUBLIC "-//Netscape//DTD RSS 0.91//EN" "http://e.com/rss.dtd" [<!ENTITY eacute "&#233;">]>'
    title = "Soci\xe9t\xe9 &eacute;t&#233; \u20ac"
    answers = []
    for number, encoding in enumerate(["utf-8", "utf-16", "windows-1252", "iso-8859-15", "punycode", "no-such"]):
        feed = f'<?xml version="1.0" encoding="{encoding}"?>\n{doctype}\n{rss(item(number)).decode()[21:]}'
        feed = feed.replace(f"Bank number {number} fails", f"{title} {number}")
        answers.append(answer(body=feed.encode("utf-8" if encoding in {"punycode", "no-such"} else encoding)))
    documents, _ = read(*answers)
    assert [d.title for d in documents] == [f"Soci\xe9t\xe9 \xe9t\xe9 \u20ac {n}" for n in range(len(answers))]


_HOSTILE = """
import sys
from ingest.feed import FeedError, read_feed

MB = 1_000_000
ITEM = "<item><title>Bank fails</title><description>{}</description></item>"
RSS = '<rss version="2.0" {}><channel>{}</channel></rss>'
ATTACKS = {
    "entity": '<?xml version="1.0"?>\\n<!DOCTYPE r [\\n<!ENTITY a "' + "x" * MB + '">\\n]>\\n'
    + RSS.format("", ITEM.format("&a;" * 4_000)),
    "entity, loose": '<!DOCTYPE r [\\n<!ENTITY a "' + "x" * MB + '">\\n]>\\n'
    + RSS.format("", ITEM.format("&a;" * 4_000) + "<oops>"),
    "base": RSS.format('xml:base="http://e.com/' + "x" * 2 * MB + '"', ITEM.format("<a>" * 2_000 + "</a>" * 2_000)),
    "base, growing": RSS.format("", f'<a xml:base="{"x" * 100}/">' * 6_000 + ITEM.format("x")),
    "language": RSS.format('xml:lang="' + "e_" * MB + '"', ITEM.format("x") * 2_000),
    "prefix": '<rss version="2.0" xmlns:{0}="urn:x">'.format("p" * MB) + '<a xmlns="urn:x">' * 4_000,
    "namespace": '<rss version="2.0" xmlns="urn:{}">'.format("p" * MB) + "".join(f"<a{n}>" for n in range(4_000)),
    "tag": "<rss version='2.0'><a:" + "x" * MB + ">" + "<>" * 4_000,
    "tags": "<rss version='2.0'>" + "<item>" * 201_000,
    "lines": "\\n" * 4 * MB + RSS.format("", ITEM.format("x")),
    "author": RSS.format("", "<item><title>Bank fails</title><author>" + "a" * MB + "</author></item>"),
}
try:
    print(len(read_feed(ATTACKS[sys.argv[1]].encode(), content_type="text/xml", language="", url="http://e.com/f")[0]))
except FeedError as exc:
    print("refused", exc)
"""


@pytest.mark.parametrize(
    ("attack", "outcome"),
    {
        "entity": "1",
        "entity, loose": "1",
        "base": "1",
        "base, growing": "1",
        "language": "2000",
        "prefix": "refused",
        "namespace": "refused",
        "tag": "refused",
        "tags": "refused",
        "lines": "1",
        "author": "1",
    }.items(),
)
def test_a_hostile_feed_takes_bounded_memory_and_time(attack: str, outcome: str) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (1_000_000_000, 1_000_000_000))
        resource.setrlimit(resource.RLIMIT_CPU, (60, 60))

    done = subprocess.run(
        [sys.executable, "-c", _HOSTILE, attack], preexec_fn=limit, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-1_000:]
    assert done.stdout.startswith(outcome)


def test_a_feed_that_takes_too_long_to_parse_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "_MAX_CPU_S", -1.0)
    with pytest.raises(FeedError, match="to parse"):
        read_feed(rss(item(1)), content_type="", language="", url="http://e.com/")


def test_one_reference_to_no_character_costs_nothing_else(read: Any, answer: Any) -> None:
    odd = ["&#55357;&#56832;", "&#xD83D;", "&#x110000;", "&#0;", f"&#{'9' * 5_000};", f"&amp;#{'9' * 5_000};"]
    answers = [
        answer(body=rss(item(n, f"<description>Odd {one} and</description>"), item(9))) for n, one in enumerate(odd)
    ]
    documents, _ = read(*answers)
    texts = [d.text for d in documents if "number 9" not in d.title]
    assert len(documents) == len(odd) + 1
    assert texts == ["Odd \U0001f600 and"] + ["Odd \ufffd and"] * 5


@pytest.mark.parametrize("bad", ["http://e\xef\xbc\x83x.com/1", "http://e\uff03x.com/1", "http://[::1"])
def test_a_link_that_cannot_be_joined_costs_the_entry_its_link_alone(read: Any, answer: Any, bad: str) -> None:
    documents, _ = read(answer(body=rss(item(1).replace("https://e.com/1", bad), item(2))))
    assert {d.title: d.url for d in documents} == {
        "Bank number 1 fails": "",
        "Bank number 2 fails": "https://e.com/2",
    }


def test_gone_is_gone(feed_server: Any, read: Any, answer: Any, counted: Any) -> None:
    with pytest.raises(SourceGoneError, match="410"):
        read(answer(410), answer(body=rss(item(1))))
    assert counted("newsquake_ingest_polls_total", outcome="gone") == 1
    assert len(feed_server.requests) == 1


@pytest.mark.parametrize("date", [False, True])
def test_retry_after_is_kept_to(feed_server: Any, read: Any, answer: Any, date: bool) -> None:
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True) if date else "1"
    read(answer(429, headers={"Retry-After": until}), answer(304))
    (first, *_), (second, *_) = feed_server.requests
    assert second - first >= (0.9 if date else 1.0)


def test_one_request_at_a_time_to_a_host_with_a_gap(feed_server: Any, feed: Any, answer: Any) -> None:
    gate = HostGate(0.05)
    feed_server.answers = [answer(304) for _ in range(8)]
    sources = [feed(path=f"/{n}", gate=gate) for n in range(4)]
    threads = [threading.Thread(target=lambda s=s: list(s.run(None, feed_server.stop))) for s in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times = sorted(at for at, *_ in feed_server.requests)
    assert feed_server.most_at_once == 1
    assert all(later - earlier >= 0.05 for earlier, later in itertools.pairwise(times))


def test_trouble_shows_while_it_lasts(feed_server: Any, feed: Any, answer: Any) -> None:
    source = feed()
    feed_server.answers = [answer(500)] * 3 + [answer(body=rss(item(1))), answer(304)]
    seen: list[str] = []
    run: Iterator[Any] = source.run(None, feed_server.stop)
    watcher = threading.Thread(target=lambda: seen.extend(_watch(source, feed_server.stop)))
    watcher.start()
    list(run)
    watcher.join()
    assert any("500" in text for text in seen)
    assert source.trouble == ""


def _watch(source: RssSource, stop: threading.Event) -> list[str]:
    seen = []
    while not stop.is_set():
        seen.append(source.trouble)
        time.sleep(0.001)
    return seen


def test_the_list_that_ships_is_complete(metrics: IngestMetrics) -> None:
    feeds = load_feeds(DEFAULT_FEEDS)
    assert len({feed.url for feed in feeds}) == len(feeds) > 30
    assert {s.name for s in build_sources(IngestSettings(), metrics)} == {f"rss:{feed.name}" for feed in feeds}


@pytest.mark.parametrize(
    "content",
    ["not toml", '[[feeds]]\nname = "x"', '[[feeds]]\nname="a"\nurl="file:///etc/passwd"\npublisher="p"', "feeds = 3"],
)
def test_a_wrong_list_of_feeds_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "feeds.toml").write_text(content)
    with pytest.raises(ValueError, match=r"feeds\.toml"):
        load_feeds(tmp_path / "feeds.toml")


def test_what_opens_a_feed_stands_in_no_message(
    read: Any, answer: Any, feed: Any, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    read(
        answer(404),
        answer(302, headers={"Location": "ftp://me:secret@e.com/feed?token=secret"}),
        answer(body=b"?", headers={"Content-Encoding": "br"}),
        answer(body=b"no feed"),
        answer(304),
        source=feed(path="/feed?token=secret"),
    )
    settings = RssSettings(feeds=(Feed(name="x", url="http://me:secret@127.0.0.1:1/feed?a=secret", publisher="p"),))
    gone = Fetcher(user_agent="t", timeout_s=2.0, max_bytes=1_000, max_redirects=1)
    with pytest.raises(FetchError) as failed:
        gone.get(settings.feeds[0].url)
    assert "http://127.0.0.1:1/feed could" in str(failed.value)
    (tmp_path / "feeds.toml").write_text('[[feeds]]\nname="a"\nurl="ftp://me:secret@e.com"\npublisher="p"')
    with pytest.raises(ValueError, match="pattern") as wrong:
        load_feeds(tmp_path / "feeds.toml")
    assert caplog.text.count("/feed") >= 4
    assert "secret" not in f"{caplog.text} {failed.value} {wrong.value} {settings!r}"


def test_canonical_url() -> None:
    assert canonical_url("HTTPS://E.com/a?utm_medium=x&b=1&fbclid=2#f") == "https://e.com/a?b=1"
    assert canonical_url("http://[broken") == "http://[broken"
