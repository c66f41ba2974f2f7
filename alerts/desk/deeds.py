"""What people do on the desk: each deed, and its entry in the audit log with it, in one write."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial

import msgspec
from redis import RedisError

from alerts.actions import ActionError
from alerts.alert import Alert
from alerts.audit import Entry, entry
from alerts.desk.auth import Identity
from alerts.desk.problems import ProblemError
from alerts.desk.ranking import Deed
from alerts.desk.state import Desk
from alerts.ends import End, after
from alerts.feedback import About, Said, said, topic_of
from alerts.life import AlertView, Transition
from alerts.matchers import Matcher, MatcherError, labels_of, matches_all, parse
from alerts.notes import MAX_NOTE, cleaned
from alerts.silences import Asked, Silence, same_again

log = logging.getLogger(__name__)

MAX_REASON = 500
MAX_SILENCE = timedelta(days=30)
_GONE = "there is no such alert (any more)"


class Laid(Silence, frozen=True, kw_only=True):
    """A silence that was laid just now, and how many open alerts it is `over`."""

    over: int


class Deeds:
    """What one visitor may do, from one address.

    Every method raises `ProblemError` when it cannot be done: 404 there is no such thing, 409 it is not the time.
    """

    def __init__(self, desk: Desk, who: Identity, address: str) -> None:
        self._desk, self._who, self._address = desk, who, address

    def change(self, verb: str, alert_id: str, reason: str) -> Transition:
        """Acknowledge, unacknowledge, resolve or reopen an alert."""
        alert = self._view(alert_id).alert
        deeds = {
            "acknowledge": self._desk.actions.acknowledge,
            "unacknowledge": self._desk.actions.unacknowledge,
            "resolve": self._desk.actions.resolve,
            "reopen": self._desk.actions.reopen,
        }
        try:
            step = deeds[verb](alert_id, self._who.name, reason, note=self._note(verb, alert_id, reason))
        except ActionError as exc:
            raise ProblemError(409, str(exc), alert=exc.alert) from exc
        self._count(verb)
        if verb == "acknowledge":
            self._learn("acknowledged", alert)
        return step

    def note(self, alert_id: str, text: str) -> Transition:
        """Write a note on an alert."""
        self._view(alert_id)
        if not 0 < len(text := cleaned(text)) <= MAX_NOTE:
            raise ProblemError(422, f"a note has 1 to {MAX_NOTE} characters that can be seen")
        try:
            step = self._desk.actions.annotate(alert_id, self._who.name, text, note=self._note("note", alert_id, text))
        except ActionError as exc:
            raise ProblemError(409, str(exc)) from exc
        self._count("note")
        return step

    def silence(self, matchers: tuple[Matcher, ...], end: End, reason: str, starts_at: datetime | None) -> Laid:
        """Lay a silence over what all matchers match, for a length or until a time, from now or a later time on.

        Asked for once more, by who got no answer, it is the same one.
        """
        (found,) = self._silence([matchers], end, reason, starts_at)
        if isinstance(found, ProblemError):
            raise found
        return found

    def _silence(
        self, wanted: Sequence[tuple[Matcher, ...]], end: End, reason: str, starts_at: datetime | None = None
    ) -> list[Laid | ProblemError]:
        """Lay a silence over each of these, in one go; return of each what was laid, or why none was."""
        now = self._desk.actions.now()
        start = starts_at or now
        try:
            ends_at = _ends_at(start, end)
            asked = [self._asked(matchers, start, ends_at, reason, now) for matchers in wanted]
            views = self._desk.store.views(open=True)  # it may fail: first
            same = partial(same_again, from_now=starts_at is None)
            laid = self._desk.actions.lay(asked, self._who.name, same).silences
        except (ActionError, OverflowError) as exc:
            raise ProblemError(409, str(exc)) from exc
        labels = [labels_of(view.alert) for view in views]
        found: list[Laid | ProblemError] = []
        for each, (silence, _) in zip(laid, asked, strict=True):
            if isinstance(each, ActionError):
                found.append(ProblemError(409, str(each)))
                continue
            if each.id == silence.id:
                self._count("silence")
            over = sum(matches_all(each.matchers, known) for known in labels) if each.holds(now) else 0
            found.append(Laid(**msgspec.structs.asdict(each), over=over))
        return found

    def _asked(
        self, matchers: tuple[Matcher, ...], starts_at: datetime, ends_at: datetime, reason: str, now: datetime
    ) -> Asked:
        silence = Silence(
            id=uuid.uuid4().hex,
            matchers=matchers,
            starts_at=starts_at,
            ends_at=ends_at,
            author=self._who.name,
            reason=reason,
            created_at=now,
        )
        return Asked(silence, self._note("silence", silence.id, f"{', '.join(map(str, matchers))}: {reason}"))

    def silence_alert(self, alert_id: str, end: End, reason: str) -> Laid:
        """Lay a silence over an alert's series."""
        found = self.silence_alerts([alert_id], end, reason)[alert_id]
        if isinstance(found, ProblemError):
            raise found
        return found

    def silence_alerts(self, ids: Iterable[str], end: End, reason: str) -> dict[str, Laid | ProblemError]:
        """Lay a silence over the series of each of these alerts, in one go; return of each what was laid or why not."""
        wanted = list(dict.fromkeys(ids))
        alerts = {id_: view.alert for id_, view in self._desk.store.find(wanted).items()}
        matchers: dict[str, tuple[Matcher, ...]] = {}
        done: dict[str, Laid | ProblemError] = {}
        for id_, alert in alerts.items():
            try:
                matchers[id_] = (Matcher("series", "=", alert.series),)
            except MatcherError as exc:
                done[id_] = ProblemError(422, f"no silence may name that series: {exc}")
        if matchers:
            done |= zip(matchers, self._silence(list(matchers.values()), end, reason), strict=True)
        self._learn_each("dismissed", [alert for id_, alert in alerts.items() if isinstance(done[id_], Laid)])
        return {id_: done.get(id_, ProblemError(404, _GONE)) for id_ in wanted}

    def dismiss(self, alert_id: str) -> None:
        """Say that one does not want such alerts: they sink in one's own list, and nothing else changes."""
        alert = self._view(alert_id).alert
        self._learn("dismissed", alert, self._note("dismiss", alert_id, ""))
        self._count("dismiss")

    def change_silence(self, silence_id: str, end: End) -> Silence:
        """Give a silence another end: a time, or a length from now or from its beginning that lies ahead."""
        silence = self._known_silence(silence_id)
        try:
            _ends_at(max(self._desk.actions.now(), silence.starts_at), end)
            note = self._note("change_silence", silence_id, "")
            changed = self._desk.actions.change_silence(silence_id, end, self._who.name, note)
        except ActionError as exc:
            raise ProblemError(409, str(exc)) from exc
        if changed != silence:
            self._count("change_silence")
        return changed

    def expire(self, silence_id: str) -> None:
        """End a silence now."""
        self._known_silence(silence_id)
        try:
            note = self._note("expire_silence", silence_id, "")
            self._desk.actions.expire_silence(silence_id, self._who.name, note)
        except ActionError as exc:
            raise ProblemError(409, str(exc)) from exc
        self._count("expire_silence")

    def judge(self, alert_id: str, verdict: str) -> Said:
        """Say that an alert is useful or a false alarm; an empty verdict takes back what was said."""
        alert = self._view(alert_id).alert
        word = self._said(alert, "alert", verdict, taken_back=not verdict, topic=topic_of(alert))
        self._post(word, f"alert: {verdict or 'taken back'}")
        if verdict:
            self._learn("acknowledged" if verdict == "useful" else "dismissed", alert)
        return word

    def correct(
        self, alert_id: str, story: int, title: str, about: About, label: str, *, taken_back: bool = False
    ) -> Said:
        """Say that the sentiment or topic of an alert's headline is wrong, and which is right, when that is known.

        With a `title` it is that headline of the alert's, wherever it stands by now.
        """
        alert = self._view(alert_id).alert
        stories = alert.stories
        if title and (story >= len(stories) or stories[story].title != title):
            story = next((number for number, each in enumerate(stories) if each.title == title), -1)
            if story < 0:
                raise ProblemError(409, "the alert shows that headline no more; load the page again")
        if story >= len(stories):
            raise ProblemError(404, f"the alert has {len(stories)} headlines")
        known = self._desk.sentiments if about == "sentiment" else self._desk.topics
        if label and label not in known:
            raise ProblemError(422, f"no {about} is called {label[:60]}; there are: {', '.join(known)}")
        headline = stories[story]
        given = "negative" if about == "sentiment" else headline.topic
        if label == given:
            raise ProblemError(422, f"{label} is what the model says")
        word = self._said(
            alert,
            about,
            label,
            taken_back=taken_back,
            title=headline.title,
            url=headline.url,
            publisher=headline.publisher,
            given=given,
            topic=headline.topic,
        )
        self._post(word, f"{about} of “{headline.title[:80]}”: {'taken back' if taken_back else label or 'wrong'}")
        return word

    def _learn(self, deed: Deed, alert: Alert, note: Entry | None = None) -> None:
        """Learn what somebody likes. Without a note it goes along with a deed that is done, and fails alone."""
        try:
            self._desk.ranking.note(self._who.name, deed, alert, topic_of(alert), self._desk.actions.now(), note)
        except RedisError as exc:
            if note is not None:
                raise
            log.warning("what %s did about alert %s does not order their list: %s", self._who.name, alert.id, exc)

    def _learn_each(self, deed: Deed, alerts: Iterable[Alert]) -> None:
        """Learn what somebody likes of several alerts, along with what is done, as `_learn` does."""
        things = ((alert, topic_of(alert)) for alert in alerts)
        try:
            self._desk.ranking.note_each(self._who.name, deed, things, self._desk.actions.now())
        except RedisError as exc:
            log.warning("what %s did about several alerts does not order their list: %s", self._who.name, exc)

    def _said(self, alert: Alert, about: About, value: str, **fields: object) -> Said:
        model = self._desk.stream.model
        return said(
            self._who.name, about, value, alert=alert.id, series=alert.series, rule=alert.rule, model=model, **fields
        )

    def _post(self, word: Said, detail: str) -> None:
        self._desk.feedback.post(word, self._note("feedback", word.alert, detail))
        self._desk.metrics.feedback.labels(verdict=word.verdict).inc()
        self._count("feedback")

    def _known_silence(self, silence_id: str) -> Silence:
        silence = self._desk.silences.get(silence_id)
        if silence is None:
            raise ProblemError(404, "there is no such silence")
        return silence

    def _view(self, alert_id: str) -> AlertView:
        view = self._desk.store.view(alert_id)
        if view is None:
            raise ProblemError(404, _GONE)
        return view

    def _note(self, what: str, target: str, detail: str) -> Entry:
        return entry(self._who.name, what, target=target, detail=detail, address=self._address)

    def _count(self, what: str) -> None:
        self._desk.metrics.actions.labels(action=what).inc()


def _ends_at(start: datetime, end: End) -> datetime:
    """Return when a silence that begins then is to end.

    Raises:
        ProblemError: the desk lays none that long.
    """
    length = end if isinstance(end, timedelta) else end - start
    if length > MAX_SILENCE:
        days = MAX_SILENCE.days
        raise ProblemError(
            422,
            f"on the desk a silence ends {days} days at most after now, or after its beginning where that lies ahead "
            "(`newsquake silence` knows longer ones)",
        )
    return after(start, end)


def matchers_of(text: str) -> tuple[Matcher, ...]:
    """Return the matchers in a text.

    Raises:
        ProblemError: they are not in Alertmanager's grammar, or there are none.
    """
    try:
        found = parse(text)
    except MatcherError as exc:
        raise ProblemError(422, str(exc)) from exc
    if not found:
        raise ProblemError(422, "at least one matcher is needed, such as company=JPM")
    return found
