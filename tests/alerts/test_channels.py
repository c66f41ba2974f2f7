"""Each format as its service takes it: signatures verified, answers understood, hostile text stays text, in limits."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
import trustme
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from standardwebhooks.webhooks import Webhook

from alerts.alert import Alert, By, Event
from alerts.channels import channel as channel_module
from alerts.channels.channel import Channel
from alerts.channels.content import content_of
from alerts.channels.table import channel_of
from alerts.delivery import delivery_of
from alerts.digest import digest_of
from alerts.episodes import LONGEST_MIN
from alerts.listen import render
from alerts.message import GroupMessage, decode_message
from alerts.notification import Notification, decode_notification, notification_id
from alerts.receivers import Receiver

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
KEY = "R" * 32
HTTP_TYPES = ("webhook", "slack", "teams", "pagerduty", "alertmanager", "feishu", "dingtalk", "wecom")
_receiver: TypeAdapter[Any] = TypeAdapter(Receiver)


def channel(kind: str, url: str = "https://receiver.example/hook", **more: Any) -> Channel:
    given: dict[str, Any] = {"type": kind, "name": kind, "allow_networks": ["127.0.0.0/8"]}
    if kind == "email":
        given |= {"host": "mail.example", "sender": "alerts@bank.example", "to": ["desk@bank.example"]}
    else:
        given["url"] = url
    given |= {"secrets": ["whsec_" + "A" * 32]} if kind == "webhook" else {}
    given |= {"routing_key": KEY} if kind == "pagerduty" else {}
    return channel_of(_receiver.validate_python(given | more))


@cache
def plain_channel(kind: str) -> Any:
    return channel(kind)


def told(*alerts: Alert, event: Event = "alert.firing", **more: Any) -> Notification:
    ident = notification_id("test", event, *(alert.id for alert in alerts))
    return Notification(id=ident, receiver="desk", event=event, alerts=alerts, at=NOW, **more)


def posted(kind: str, notification: Notification) -> list[Any]:
    return [json.loads(request.body) for request in plain_channel(kind).requests(notification, NOW)]


async def test_a_webhook_is_signed_with_each_secret_the_newest_first(hooks: Any, alert: Alert) -> None:
    new, old = ("whsec_" + base64.b64encode(letter * 32).decode() for letter in (b"n", b"o"))
    now = datetime.now(UTC)
    assert (await channel("webhook", hooks.url, secrets=[new, old]).send(told(alert), now)).outcome == "delivered"
    ((headers, body),) = hooks.requests
    for secret in (new, old):
        assert Webhook(secret).verify(body, headers)["data"]["id"] == alert.id
    first, second = headers["webhook-signature"].split(" ")
    assert Webhook(new).verify(body, {**headers, "webhook-signature": first})
    assert Webhook(old).verify(body, {**headers, "webhook-signature": second})


async def test_an_address_that_swallows_packets_leaves_time_for_the_next(
    hooks: Any, alert: Alert, black_hole: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_module, "TIMEOUT_S", 3.0)
    black_hole(hooks.server.server_port)
    receiver = channel("slack", hooks.url.replace("127.0.0.1", "receiver.example"))
    assert (await receiver.send(told(alert), NOW)).outcome == "delivered"
    assert len(hooks.requests) == 1


async def test_feishu_s_signature_and_codes(hooks: Any, alert: Alert) -> None:
    hooks.usual, hooks.body = 200, b'{"code":0,"msg":"success"}'
    bot = channel("feishu", hooks.url, secret="hush")
    assert (await bot.send(told(alert), NOW)).outcome == "delivered"
    body = json.loads(hooks.requests[0][1])
    key = f"{body['timestamp']}\nhush".encode()
    assert base64.b64decode(body["sign"]) == hmac.new(key, b"", hashlib.sha256).digest()
    assert int(body["timestamp"]) == int(NOW.timestamp())
    hooks.body = b'{"code":19021,"msg":"sign match fail"}'
    assert (await bot.send(told(alert), NOW)).outcome == "failed"
    hooks.body = b'{"code":11232,"msg":"frequency limited"}'
    assert (await bot.send(told(alert), NOW)).outcome == "limited"
    hooks.body = b"<html>"
    assert (await bot.send(told(alert), NOW)).outcome == "failed"


@pytest.mark.parametrize("kind", ["feishu", "dingtalk", "wecom"])
async def test_answers_come_uncompressed_and_are_no_way_into_a_terminal(hooks: Any, alert: Alert, kind: str) -> None:
    hooks.usual, hooks.body = 200, json.dumps({"code": "\x1b[31m", "errcode": "\x1b[31m"}).encode()
    result = await channel(kind, hooks.url).send(told(alert), NOW)
    assert hooks.requests[0][0]["accept-encoding"] == "identity"  # or what was taken would seem refused, and come again
    assert result.outcome == "failed"
    assert result.reason.isprintable()


async def test_dingtalk_s_signature_and_codes(hooks: Any, alert: Alert) -> None:
    hooks.usual, hooks.body = 200, b'{"errcode":0,"errmsg":"ok"}'
    robot = channel("dingtalk", hooks.url, secret="SEChush")
    assert (await robot.send(told(alert), NOW)).outcome == "delivered"
    query = parse_qs(urlsplit(hooks.paths[0]).query)
    assert query["token"] == ["hidden"]
    expected = hmac.new(b"SEChush", f"{query['timestamp'][0]}\nSEChush".encode(), hashlib.sha256).digest()
    assert base64.b64decode(query["sign"][0]) == expected
    assert query["timestamp"] == [str(int(NOW.timestamp() * 1_000))]
    hooks.body = b'{"errcode":130101,"errmsg":"send too fast"}'
    result = await robot.send(told(alert), NOW)
    assert (result.outcome, result.retry_after_s) == ("limited", 600)
    hooks.body = b'{"errcode":310000,"errmsg":"sign not match"}'
    assert (await robot.send(told(alert), NOW)).outcome == "failed"


async def test_wecom_s_codes(hooks: Any, alert: Alert) -> None:
    hooks.usual = 200
    for body, outcome in ((b'{"errcode":0}', "delivered"), (b'{"errcode":45009}', "limited"), (b"{}", "failed")):
        hooks.body = body
        assert (await channel("wecom", hooks.url).send(told(alert), NOW)).outcome == outcome


async def test_pagerduty_triggers_acknowledges_and_resolves_one_incident(hooks: Any, alert: Alert) -> None:
    hooks.usual = 202
    over = msgspec.structs.replace(alert, status="resolved", revision=2, resolved_at=NOW)
    pager = channel("pagerduty", hooks.url)
    life: tuple[tuple[Event, Alert], ...] = (
        ("alert.firing", alert), ("alert.acknowledged", alert), ("alert.resolved", over),
    )  # fmt: skip
    for event, state in life:
        notification = told(state, event=event, desk_url="https://desk.example")
        assert (await pager.send(notification, NOW)).outcome == "delivered"
    events = [json.loads(body) for _, body in hooks.requests]
    assert [event["event_action"] for event in events] == ["trigger", "acknowledge", "resolve"]
    assert {(event["dedup_key"], event["routing_key"]) for event in events} == {(alert.id, KEY)}
    assert events[0]["payload"]["severity"] == "critical"
    assert events[0]["links"][0]["href"] == f"https://desk.example/alerts/{alert.id}"
    hooks.answers = [400]
    assert (await pager.send(told(alert), NOW)).outcome == "refused"


async def test_alertmanager_keeps_one_alert_by_its_labels(hooks: Any, alert: Alert) -> None:
    hooks.usual = 200
    manager = channel(
        "alertmanager", hooks.url.split("/hook")[0] + "/", username="nq", password="hush", labels={"team": "risk"}
    )
    mild = msgspec.structs.replace(alert, severity="warning")
    moved = {"series": "company=JPM", "name": "JPM", "moved_at": NOW, "began_on": alert.series}
    over = msgspec.structs.replace(alert, status="resolved", revision=3, resolved_at=NOW, **moved)
    life: tuple[tuple[Event, Alert], ...] = (
        ("alert.firing", mild), ("alert.escalated", alert), ("alert.resolved", over),
    )  # fmt: skip
    for event, state in life:
        assert (await manager.send(told(state, event=event), NOW)).outcome == "delivered"
    assert set(hooks.paths) == {"/api/v2/alerts"}
    assert hooks.requests[0][0]["authorization"] == "Basic " + base64.b64encode(b"nq:hush").decode()
    fires: list[set[str]] = []
    labels: dict[str, list[dict[str, str]]] = {"warning": [], "critical": []}
    for _, body in hooks.requests:
        entries = json.loads(body)
        for entry in entries:
            labels[entry["labels"]["severity"]].append(entry["labels"])
            assert datetime.fromisoformat(entry["endsAt"]) >= datetime.fromisoformat(entry["startsAt"])
        later = NOW + timedelta(minutes=LONGEST_MIN)  # no theme goes on for longer
        fires.append({e["labels"]["severity"] for e in entries if datetime.fromisoformat(e["endsAt"]) > later})
    assert fires == [{"warning"}, {"critical"}, set()]
    assert (len(labels["warning"]), len(labels["critical"])) == (3, 2)  # never over what never fired
    for known in labels.values():
        assert all(one == known[0] for one in known)
    assert labels["critical"][0]["company"] == "SIVB"
    assert json.loads(hooks.requests[-1][1])[0]["annotations"]["name"] == "JPM"
    assert labels["critical"][0]["team"] == "risk"


def test_people_see_what_was_seen_and_expected_with_evidence_and_links(alert: Alert) -> None:
    notification = told(alert, desk_url="https://desk.example/", why="route of file rules.yaml, line 7")
    for kind in ("slack", "teams", "feishu", "dingtalk", "wecom"):
        (body,) = posted(kind, notification)
        text = json.dumps(body, ensure_ascii=False)
        for part in ("SIVB", "14 negative", "1.2", "Bank shares plunge", "Daily", "https://example.org/1", "█"):
            assert part in text, (kind, part)
        assert f"https://desk.example/alerts/{alert.id}" in text
        assert "line 7" in text


def test_people_see_who_acknowledged_and_resolved(alert: Alert) -> None:
    by = {alert.id: By(actor="ana", at=NOW.replace(hour=14, minute=3), reason="calling *the* bank")}
    over = msgspec.structs.replace(alert, status="resolved")
    events: tuple[tuple[Event, Alert, str, str], ...] = (
        ("alert.acknowledged", alert, "Acknowledged by ana: SIVB", "Acknowledged"),
        ("alert.resolved", over, "Resolved by ana: SIVB", "Resolved"),
    )
    for event, one, title, label in events:
        notification = told(one, event=event, by=by)
        content = content_of(notification)
        assert content.title == title
        assert content.parts[0].facts[0] == (label, "by ana at 14:03 UTC: calling *the* bank")
        for kind in ("slack", "teams", "feishu", "dingtalk", "wecom", "alertmanager"):
            assert "by ana at 14:03 UTC" in json.dumps(posted(kind, notification)[0], ensure_ascii=False), kind
        mail = plain_channel("email").mail(notification, NOW)
        assert mail["Subject"] == title
        assert all("by ana at 14:03 UTC" in part.get_content() for part in mail.iter_parts())
        (body,) = posted("webhook", notification)
        assert body["by"] == {"actor": "ana", "at": "2026-11-24T14:03:00Z", "reason": "calling *the* bank", "did": ""}
        assert "by ana at 14:03 UTC: calling *the* bank" in render(decode_message(json.dumps(body).encode())).plain
    other = msgspec.structs.replace(alert, id="b" * 32, name="JPM")
    both = told(alert, other, event="alert.acknowledged", by=by)
    assert content_of(both).title == "Acknowledged: 2 alerts, SIVB, JPM"
    assert posted("webhook", both)[0]["data"]["by"].keys() == {alert.id}
    digest = decode_notification(
        digest_of([delivery_of(told(alert, event="alert.acknowledged", by=by), 0.0)], NOW).body
    )
    assert content_of(digest).lines == ("12:00 UTC Acknowledged by ana: SIVB: 14 negative of 15 items",)
    again = told(alert, by={alert.id: By(actor="ben", at=NOW)})
    assert content_of(again).title == "Firing, critical: SIVB"
    assert content_of(again).parts[0].facts[0] == ("No longer acknowledged", "by ben at 12:00 UTC")


def test_a_group_and_a_digest_list_their_alerts(alert: Alert) -> None:
    many = [
        msgspec.structs.replace(alert, id=f"{n:032x}", name=f"N{n}", summary=f"N{n}: 14 negative of 15 items")
        for n in range(300)
    ]
    members = [delivery_of(told(one), NOW.timestamp()) for one in many]
    digest = decode_notification(digest_of(members, NOW).body)
    assert digest_of(members, NOW).id == digest.id == digest_of(members, NOW + timedelta(1)).id
    assert [held.alerts[0] for held in digest.held] == [one.id for one in many]
    for notification in (told(*many[:3], group="g", group_labels={"topic": "Banks"}), digest):
        for kind in HTTP_TYPES:
            bodies = posted(kind, notification)
            CHECKS[kind](bodies)
            text = json.dumps(bodies, ensure_ascii=False)
            assert "N0" in text or many[0].id in text
    (body,) = plain_channel("webhook").requests(digest, NOW)
    message = decode_message(body.body)
    assert isinstance(message, GroupMessage)
    assert message.type == "group.digest"
    assert len(message.data.held) + message.data.more_held == 300
    assert len(message.data.alerts) + message.data.more_alerts == len(digest.alerts)
    assert "300 messages" in json.dumps(posted("slack", digest))


HOSTILE = (
    "<!channel> <@U123> @channel @all @everyone <@all> <at id=all></at>",
    "[x](javascript:alert(1)) ![i](http://x) *b* _i_ ~s~ `c` # h",
    "</b><script>alert(1)</script><img src=x onerror=alert(1)>&lt;",
    "evil\u202etxt.exe\u2066\u200f\x00\x1b[31m\r\nBcc: all@bank.example",
    "{{ 7*7 }} {{DATE(2017-02-14T06:00:00Z)}} {{{TIME(2017-02-14T06:00:00Z)}}} {% raw %} ${x} \\ \" ' | &amp;",
)
texts = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(max_size=400),
    st.text(alphabet=st.sampled_from("<>[]()*_`~#@!|\\&{}\"' \u202e\u2066\x00\n\rajx:/"), max_size=400),
)
urls = st.one_of(
    st.sampled_from(
        ["javascript:alert(1)", "data:text/html,x", "https://a.example/|x>(y)[z]\"'<!channel>", "http://u:p@x/", "",
         "https://a.example/" + "x" * 3_000, "https://\u202e.example/", "file:///etc/passwd", "https://a.example/@all"]
    ),
    st.text(max_size=60).map("https://example.org/".__add__),
)  # fmt: skip


@pytest.fixture
def plain_alert(alert: Alert) -> Alert:
    return alert


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    title=texts,
    name=texts,
    summary=texts,
    publisher=texts,
    why=texts,
    url=urls,
    count=st.integers(1, 12),
    data=st.data(),
)
def test_whatever_a_headline_holds_stays_text_within_the_limits(
    plain_alert: Alert, title: str, name: str, summary: str, publisher: str, why: str, url: str, count: int, data: Any
) -> None:
    long = data.draw(st.sampled_from([1, 40]))
    story = msgspec.structs.replace(plain_alert.stories[0], title=title * long, publisher=publisher, url=url)
    one = msgspec.structs.replace(
        plain_alert, name=name, summary=summary * long, stories=(story,) * 8, expected_false_share=0.1
    )
    alerts = [msgspec.structs.replace(one, id=f"{n:032x}") for n in range(count)]
    by = {alerts[0].id: By(actor=name, at=NOW, reason=why)}
    notification = told(*alerts, why=why, by=by, desk_url="https://desk.example")
    for kind in HTTP_TYPES:
        bodies = posted(kind, notification)
        CHECKS[kind](bodies)
        for text in strings(bodies if kind != "webhook" else []):
            assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f]", text), kind
            if not text.startswith(("https://", "http://")):
                assert not re.search(r"@(?=\w)", text), (kind, text)
    check_mail(plain_channel("email").mail(notification, NOW))


@pytest.mark.parametrize("title", HOSTILE)
def test_each_hostile_headline_stays_text_in_teams(alert: Alert, title: str) -> None:
    story = msgspec.structs.replace(alert.stories[0], title=title)
    CHECKS["teams"](posted("teams", told(msgspec.structs.replace(alert, name=title, stories=(story,)))))


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def found(value: Any, key: str) -> Iterator[Any]:
    if isinstance(value, dict):
        if key in value:
            yield value[key]
        for inner in value.values():
            yield from found(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from found(inner, key)


def is_web(url: str) -> bool:
    return (
        re.fullmatch(r"https?://[A-Za-z0-9.:-]+(/[A-Za-z0-9/:?#%&=+$,;~._-]*)?(\?[A-Za-z0-9/:?#%&=+$,;~._-]*)?", url)
        is not None
    )


def check_webhook(bodies: list[Any]) -> None:
    assert len(json.dumps(bodies[0], ensure_ascii=False, separators=(",", ":")).encode()) < 20_000


def check_slack(bodies: list[Any]) -> None:
    (body,) = bodies
    assert 1 <= len(body["blocks"]) <= 50
    assert len(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()) <= 13_200
    assert not re.search("[<>]", body["text"])
    assert (body["unfurl_links"], body["unfurl_media"]) == (False, False)
    assert all(is_web(url) and len(url) <= 3_000 for url in found(body, "url"))
    assert all(
        kind in ("plain_text", "text", "link") for kind in found(body, "type") if kind in ("mrkdwn", "plain_text")
    )
    for block in body["blocks"]:
        assert block["type"] in ("header", "section", "rich_text", "actions", "context")
        if block["type"] == "header":
            assert 0 < len(block["text"]["text"]) <= 150
        if block["type"] == "section":
            assert 0 < len(block["text"]["text"]) <= 3_000
            assert 0 < len(block["fields"]) <= 10
            assert all(0 < len(field["text"]) <= 2_000 for field in block["fields"])
        if block["type"] == "actions":
            assert 0 < len(block["elements"]) <= 25
            assert all(0 < len(button["text"]["text"]) <= 75 for button in block["elements"])
        if block["type"] == "context":
            assert 0 < len(block["elements"]) <= 10
        assert all(0 < len(text) <= 3_000 for text in found(block, "text") if isinstance(text, str))
        assert all(emoji is False for emoji in found(block, "emoji"))


def check_teams(bodies: list[Any]) -> None:
    (body,) = bodies
    assert len(json.dumps(body, ensure_ascii=False).encode()) <= 28_000
    (attachment,) = body["attachments"]
    assert (body["type"], attachment["contentType"]) == ("message", "application/vnd.microsoft.card.adaptive")
    card = attachment["content"]
    assert "entities" not in card["msteams"]  # without them nobody is mentioned
    assert not [text for text in strings(card) if "{{" in text]
    assert {block["type"] for block in card["body"]} == {"RichTextBlock"}  # TextBlock reads Markdown
    assert all(is_web(url) for url in found(card, "url"))


def check_pagerduty(bodies: list[Any]) -> None:
    for body in bodies:
        assert len(json.dumps(body).encode()) <= 512_000
        assert 0 < len(body["payload"]["summary"]) <= 1_024
        assert len(body["dedup_key"]) <= 255
        assert all(is_web(link["href"]) for link in body["links"])


def check_alertmanager(bodies: list[Any]) -> None:
    for entry in bodies[0]:
        assert all(entry["labels"].values())
        names = [*entry["labels"], *entry["annotations"]]
        assert all(re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", name) for name in names), names


def check_feishu(bodies: list[Any]) -> None:
    (body,) = bodies
    assert len(json.dumps(body, ensure_ascii=False).encode()) <= 20_000
    assert set(found(body, "tag")) <= {"text", "a"}
    assert not any(re.search(r"<\s*/?\s*at\b", text, re.IGNORECASE) for text in strings(body))
    assert all(is_web(url) for url in found(body, "href"))


def check_markdown(text: str) -> None:
    links = re.findall(r"\[([^\]]*)\]\(([^)]*)\)", text)
    assert all(is_web(url) for _, url in links)
    rest = re.sub(r"\[[^\]]*\]\([^)]*\)", "", text)
    assert not re.search(r"[<>\[\]`_~\\]|!\[|\*(?!\*)(?<!\*\*)", rest), rest
    assert all(line.startswith("### ") for line in text.splitlines() if "#" in re.sub(r"\([^)]*\)", "", line))


def check_dingtalk(bodies: list[Any]) -> None:
    (body,) = bodies
    assert len(json.dumps(body, ensure_ascii=False).encode()) <= 20_000
    assert body["at"] == {"isAtAll": False}
    check_markdown(body["markdown"]["text"])


def check_wecom(bodies: list[Any]) -> None:
    (body,) = bodies
    assert len(body["markdown"]["content"].encode()) <= 4_096
    check_markdown(body["markdown"]["content"])


CHECKS: dict[str, Callable[[list[Any]], None]] = {
    "webhook": check_webhook,
    "slack": check_slack,
    "teams": check_teams,
    "pagerduty": check_pagerduty,
    "alertmanager": check_alertmanager,
    "feishu": check_feishu,
    "dingtalk": check_dingtalk,
    "wecom": check_wecom,
}

TAGS = {
    "html", "head", "meta", "title", "body", "h1", "p", "pre", "table", "tr", "th", "td", "ul", "li", "a"
}  # fmt: skip


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags, self.links = set[str](), list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert {name for name, _ in attrs} <= {"lang", "charset", "name", "content", "style", "scope", "href", "rel"}
        self.links += [value or "" for name, value in attrs if name == "href"]


def check_mail(mail: Any) -> None:
    assert [name for name in mail if name.lower() in ("to", "from", "bcc", "cc", "subject")] == [
        "Subject",
        "From",
        "To",
    ]
    assert not re.search("[\r\n]", mail["Subject"])
    text, html = mail.iter_parts()
    page = Page()
    page.feed(html.get_content())
    assert page.tags <= TAGS
    assert all(is_web(url) for url in page.links)
    assert text.get_content_type() == "text/plain"
    assert b"\nBcc:" not in mail.as_bytes()


async def test_tls_is_checked_against_public_authorities_or_the_file_named(
    secured: Any, alert: Alert, tmp_path: Path
) -> None:
    ca = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(server)
    hooks = secured(server)
    refused = await channel("slack", hooks.url).send(told(alert), NOW)
    assert (refused.outcome, "CERTIFICATE_VERIFY_FAILED" in refused.reason) == ("failed", True)
    file = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(file))
    assert (await channel("slack", hooks.url, ca_file=file).send(told(alert), NOW)).outcome == "delivered"
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("another.example").configure_cert(other)
    wrong = await channel("slack", secured(other).url, ca_file=file).send(told(alert), NOW)
    assert wrong.outcome == "failed"
    assert "token" not in wrong.reason
    assert len(hooks.requests) == 1
