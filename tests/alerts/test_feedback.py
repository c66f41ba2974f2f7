"""What analysts say: kept, counted once, taken back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from redis import Redis

from alerts.feedback import OUTBOX, Feedback, decode_said, said


def _row(feedback: Feedback, by: str, name: str) -> tuple[int, int]:
    (row,) = (row for row in feedback.precision() if (row.by, row.name) == (by, name))
    return row.useful, row.false_alarm


def test_a_persons_last_verdict_on_an_alert_counts_and_counts_once(store: Redis) -> None:
    feedback = Feedback(store)

    def judge(by: str, alert: str, value: str, *, taken_back: bool = False) -> None:
        feedback.post(said(by, "alert", value, alert=alert, rule="banks", topic="Liquidity", taken_back=taken_back))

    for _ in range(3):
        judge("jo", "a", "false_alarm")
    assert _row(feedback, "rule", "banks") == (0, 1)
    judge("jo", "a", "useful")
    judge("al", "a", "useful")
    judge("jo", "b", "false_alarm")
    assert _row(feedback, "rule", "banks") == _row(feedback, "topic", "Liquidity") == (2, 1)
    assert Feedback(store).precision()[0].share == pytest.approx(2 / 3)
    judge("jo", "b", "", taken_back=True)
    assert _row(feedback, "rule", "banks") == (2, 0)
    assert [word.by for word in feedback.of("a")] == ["jo", "al"]
    assert feedback.of("b") == []


def test_verdicts_of_long_ago_count_no_more(store: Redis) -> None:
    feedback = Feedback(store)
    old = said("jo", "alert", "useful", alert="a", rule="banks")
    feedback.post(msgspec.structs.replace(old, at=datetime.now(UTC) - timedelta(days=91)))
    feedback.post(said("jo", "alert", "useful", alert="b", rule="funds"))
    assert [(row.by, row.name) for row in feedback.precision()] == [("rule", "funds")]


def test_all_words_wait_in_the_outbox_under_the_key_of_their_thing(store: Redis) -> None:
    feedback = Feedback(store)
    first = said("jo", "topic", "Credit", alert="a", title="Bank falls", given="Other")
    second = said("jo", "topic", "Liquidity", alert="b", title="Bank falls", given="Other")
    other = said("al", "topic", "Liquidity", alert="a", title="Bank falls", given="Other")
    for word in (first, second, other):
        feedback.post(word)
    entries = [fields for _, fields in store.xrange(OUTBOX)]
    assert [decode_said(fields[b"said"]) for fields in entries] == [first, second, other]
    keys = [fields[b"key"] for fields in entries]
    assert keys[0] == keys[1] != keys[2]
    count, oldest_s = feedback.waiting(datetime.now(UTC).timestamp() + 60)
    assert count == 3
    assert 59 < oldest_s < 120


@pytest.mark.parametrize("raw", [b"", b"\xff", b"{}", b"[" * 100_000, b'{"schema": 99}'])
def test_rubbish_is_no_word(raw: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_said(raw)


def test_a_word_of_a_later_schema_is_refused() -> None:
    later = msgspec.structs.replace(said("jo", "alert", "useful", alert="a"), schema=2)
    with pytest.raises(msgspec.ValidationError, match="newer"):
        decode_said(msgspec.json.encode(later))
