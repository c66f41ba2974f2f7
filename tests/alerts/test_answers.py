"""What services answer, as their documents and clients in use have it, and what it means for a delivery."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from alerts.alert import Alert
from alerts.channels.channel import Answer, retry_after_s
from alerts.channels.masks import url_mask
from tests.alerts.test_channels import NOW, channel, plain_channel, told

FEISHU = [
    (200, '{"code":0,"msg":"success","data":{},"Extra":null,"StatusCode":0,"StatusMessage":"success"}', "delivered", 0),
    (200, '{"StatusCode":0,"StatusMessage":"success"}', "delivered", 0),
    (200, '{"code":11232,"data":{},"msg":"frequency limited psm[lark.oapi.app_platform_runtime]"}', "limited", 0),
    (400, '{"code":9499,"msg":"too many request","data":{}}', "limited", 0),
    (200, '{"StatusCode":0,"StatusMessage":"","code":9499,"msg":"too many request"}', "limited", 0),
    (400, '{"code":99991400,"msg":"request trigger frequency limit"}', "limited", 52),
    (429, '{"code":99991400,"msg":"request trigger frequency limit"}', "limited", 52),
    (400, '{"code":9499,"msg":"Bad Request","data":{}}', "refused", 0),
    (200, '{"StatusCode":0,"code":19007,"msg":"Bot Not Enabled"}', "failed", 0),
    (200, '{"code":19021,"msg":"sign match fail or timestamp is not within one hour from current time"}', "failed", 0),
    (400, '{"code":19022,"msg":"Ip Not Allowed"}', "failed", 0),
    (200, '{"code":19024,"msg":"Key Words Not Found"}', "failed", 0),
    (200, "{}", "failed", 0),
    (200, "<html>", "failed", 0),
    (200, '{"code":[0]}', "failed", 0),
    (502, "", "failed", 0),
]
DINGTALK = [
    (200, '{"errcode":0,"errmsg":"ok"}', "delivered", 0),
    (200, '{"errcode":130101,"errmsg":"send too fast, exceed 20 times per minute"}', "limited", 600),
    (200, '{"errcode":410100,"errmsg":"slow down"}', "limited", 600),
    (200, '{"status":1111,"wait":5,"source":"x5","punish":"deny","errcode":130101,"errmsg":"send too fast"}',
     "limited", 600),
    (200, '{"status":1111,"wait":5,"source":"x5","punish":"deny","uuid":"24ce"}', "limited", 300),
    (200, '{"errcode":-1,"errmsg":"busy"}', "failed", 0),
    (200, '{"errcode":310000,"errmsg":"keywords not in content"}', "failed", 0),
    (200, '{"errcode":300005,"errmsg":"token is not exist"}', "failed", 0),
    (200, '{"errcode":400102,"errmsg":"bot is stopped"}', "failed", 0),
    (200, '{"errcode":430102,"errmsg":"unfit"}', "refused", 0),
    (200, '{"errcode":460101,"errmsg":"message too long, exceed 20000 bytes"}', "refused", 0),
    (200, "<html>", "failed", 0),
]  # fmt: skip
WECOM = [
    (200, '{"errcode":0,"errmsg":"ok"}', "delivered", 0),
    (200, '{"errcode":45009,"errmsg":"api freq out of limit"}', "limited", 60),
    (200, '{"errcode":45033,"errmsg":"api concurrent out of limit"}', "limited", 60),
    (200, '{"errcode":-1,"errmsg":"system busy"}', "failed", 0),
    (200, '{"errcode":93000,"errmsg":"invalid webhook url, hint: [1]"}', "failed", 0),
    (403, '{"errcode":93000,"errmsg":"invalid webhook url, hint: [1]"}', "failed", 0),
    (200, '{"errcode":40058,"errmsg":"markdown.content exceed max length 4096"}', "refused", 0),
    (200, '{"errcode":44004,"errmsg":"empty content"}', "refused", 0),
    (200, "", "failed", 0),
]
SLACK = [
    (200, "ok", "delivered", 0),
    (204, "", "delivered", 0),
    (200, '{"ok":true}', "delivered", 0),
    (200, '{"success":true}', "delivered", 0),
    (200, '{"ok":false,"error":"invalid_blocks"}', "refused", 0),
    (200, '{"ok":false,"error":["invalid_blocks"]}', "failed", 0),
    (200, '{"ok":false,"error":"ratelimited"}', "limited", 0),
    (200, "<html>Sign in to the network</html>", "failed", 0),
    (400, "invalid_payload", "refused", 0),
    (400, "invalid_blocks", "refused", 0),
    (400, "no_text", "refused", 0),
    (400, "user_not_found", "failed", 0),
    (403, "action_prohibited", "failed", 0),
    (404, "channel_not_found", "failed", 0),
    (404, "no_service", "failed", 0),
    (410, "channel_is_archived", "gone", 0),
    (429, "rate_limited", "limited", 52),
    (500, "rollup_error", "failed", 0),
]
TEAMS = [
    (202, "", "delivered", 0),
    (200, "1", "delivered", 0),
    (200, "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429 with ContextId "
     "tcid=0", "limited", 0),
    (200, "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 413 with ContextId "
     "tcid=0", "refused", 0),
    (200, "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 502 with ContextId "
     "tcid=0", "failed", 0),
    (413, "", "refused", 0),
    (429, '{"error":{"code":"WorkflowRunActionThrottled"}}', "limited", 52),
    (404, '{"error":{"code":"WorkflowNotFound"}}', "failed", 0),
]  # fmt: skip
PAGERDUTY = [
    (202, '{"status":"success","message":"Event processed","dedup_key":"a"}', "delivered", 0),
    (400, '{"status":"invalid event","message":"Event object is invalid"}', "refused", 0),
    (429, "", "limited", 52),
    (500, "", "failed", 0),
]
ALERTMANAGER = [
    (200, "", "delivered", 0),
    (400, '"invalid annotations: invalid name \\"a b\\""', "refused", 0),
    (500, '"failed to create alerts"', "failed", 0),
    (503, "", "failed", 0),
]
WEBHOOK = [
    (200, "", "delivered", 0),
    (204, "", "delivered", 0),
    (302, "", "failed", 0),
    (400, "", "failed", 0),
    (410, "", "gone", 0),
    (429, "", "limited", 52),
    (502, "", "failed", 0),
    (503, "", "limited", 52),
]
TABLES: dict[str, list[tuple[int, str, str, int]]] = {
    "feishu": FEISHU,
    "dingtalk": DINGTALK,
    "wecom": WECOM,
    "slack": SLACK,
    "teams": TEAMS,
    "pagerduty": PAGERDUTY,
    "alertmanager": ALERTMANAGER,
    "webhook": WEBHOOK,
}
ROWS = [(kind, *row) for kind, rows in TABLES.items() for row in rows]


@pytest.mark.parametrize(("kind", "status", "body", "outcome", "wait_s"), ROWS)
async def test_an_answer_means_what_the_service_says(
    hooks: Any, alert: Alert, kind: str, status: int, body: str, outcome: str, wait_s: int
) -> None:
    name = "x-ogw-ratelimit-reset" if kind == "feishu" else "retry-after"
    hooks.usual, hooks.body = status, body.encode()
    hooks.answers = [(status, {name: "52"} if wait_s == 52 else {})]
    result = await channel(kind, hooks.url).send(told(alert), NOW)
    assert (result.outcome, result.retry_after_s) == (outcome, wait_s)
    assert result.reason.isprintable()
    assert "hidden" not in result.reason  # the token in the URL


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        ("Tue, 24 Nov 2026 12:02:00 GMT", 120),
        ("Tuesday, 24-Nov-26 12:02:00 GMT", 120),
        ("Tue Nov 24 12:02:00 2026", 120),
        ("Tue, 24 Nov 2026 11:00:00 GMT", 0),
        ("Wed, 24 Nov 2027 12:00:00 GMT", 86_400),
        ("999999999999", 86_400),
        ("-5", 0),
        ("1.5", 0),
        ("soon", 0),
        ("", 0),
        (None, 0),
    ],
)
def test_retry_after_is_seconds_or_a_date_in_any_form_that_http_knows(value: str | None, seconds: float) -> None:
    assert retry_after_s(value, NOW) == seconds


async def test_dingtalk_s_signature_comes_through_the_query_whatever_base64_holds(hooks: Any, alert: Alert) -> None:
    hooks.usual, hooks.body = 200, b'{"errcode":0}'
    robot: Any = channel("dingtalk", hooks.url, secret="SEChush")
    moments = [NOW + timedelta(seconds=second) for second in range(20)]
    for at in moments:
        assert (await robot.send(told(alert), at)).outcome == "delivered"
    expected = [robot.requests(told(alert), at)[0].query["sign"] for at in moments]
    assert any("+" in sign for sign in expected)
    assert any("/" in sign for sign in expected)
    assert [parse_qs(urlsplit(path).query)["sign"] for path in hooks.paths] == [[sign] for sign in expected]


def test_wecom_gets_characters_and_no_escapes_of_them(alert: Alert) -> None:
    (request,) = plain_channel("wecom").requests(told(alert), NOW)
    assert b"\\u" not in request.body  # its code 40033
    assert "█" in json.loads(request.body)["markdown"]["content"]


@pytest.mark.parametrize(
    "said", ["Cannot POST {path}?token=hidden", "{path}: no such hook", "no hook 9f86d081884c7d65"]
)
async def test_what_a_service_repeats_of_its_url_is_not_told(hooks: Any, alert: Alert, said: str) -> None:
    path = "/T012/9f86d081884c7d65"
    hooks.usual, hooks.body = 404, said.format(path=path).encode()
    result = await channel("slack", hooks.url.replace("/hook", path)).send(told(alert), NOW)
    assert result.reason.startswith("Slack answered 404: '")
    assert "(of its URL)" in result.reason
    assert not any(secret in result.reason for secret in ("hidden", "T012", "9f86"))


SIGNED = "https://h/in?sig=ab%2Bcd%2Fef0123456789&v=1"
PATH = "https://h/in/ab%2Bcd%2Fef0123456789?x=1"
LOGIN = "https://nq:S3cret-password@h/hook"


@pytest.mark.parametrize(
    ("url", "said", "told_of_it"),
    [
        ("https://h/hook?token=hidden&channel=desk", "unknown token=hidden", "unknown _"),
        ("https://h/hook?token=hidden&channel=desk", "POST /hook?token=hidden&amp;channel=desk", "POST _"),
        (SIGNED, "bad sig ab%2Bcd%2Fef0123456789", "bad sig _"),
        (SIGNED, "bad sig ab%2bcd%2fef0123456789", "bad sig _"),
        (SIGNED, "bad sig ab+cd/ef0123456789", "bad sig _"),
        (SIGNED, r"bad sig ab+cd\/ef0123456789", "bad sig _"),
        ("https://h/in?sig=ab+cdef0123456789&v=1", "bad sig ab+cdef0123456789", "bad sig _"),
        ("https://h/in?sig=ab+cdef0123456789&v=1", "bad sig ab cdef0123456789", "bad sig _"),
        ("https://h/in?k=first-of-the-two&k=second-of-them", "no first-of-the-two, second-of-them", "no _, _"),
        (PATH, "Cannot POST /in/ab%2Bcd%2Fef0123456789", "Cannot POST _"),
        (PATH, "Cannot POST /in/ab+cd/ef0123456789", "Cannot POST _"),
        ("https://h/abcdefghijkl/abcdefghijklSECRETREST?x=1", "no hook abcdefghijklSECRETREST", "no hook _"),
        (LOGIN, "wrong password S3cret-password", "wrong password _"),
        (LOGIN, "Basic bnE6UzNjcmV0LXBhc3N3b3Jk", "Basic _"),
        ("https://nq:p%26w%3Ed@h/hook", "no p&w>d, p%26w%3Ed, p&amp;w&gt;d", "no _, _, _"),
        ("https://h/a?10", "n/a: [Errno 104] reset", "n/a: [Errno 104] reset"),
        ("https://h/services/desk?channel=news", "no news: services of the desk", "no news: services of the desk"),
        ("https://h/", "not found: /", "not found: /"),
    ],
)
def test_a_token_is_told_in_no_form_and_words_are_left(url: str, said: str, told_of_it: str) -> None:
    assert url_mask(url).sub("_", said) == told_of_it


async def test_a_code_that_is_a_text_is_not_told(hooks: Any, alert: Alert) -> None:
    hooks.usual, hooks.body = 200, b'{"errcode":"9f86d081884c7d65"}'
    result = await channel("wecom", hooks.url).send(told(alert), NOW)
    assert (result.outcome, result.reason) == ("failed", "WeCom answered a code that is no number")


def test_an_answer_that_is_no_json_object_has_no_fields() -> None:
    for body in (b"[]", b"null", b"{", b"\xff", b"1"):
        assert Answer(200, None, body).field("code") is None
