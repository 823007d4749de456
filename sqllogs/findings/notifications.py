"""Send findings that are new or reopened to a webhook and by e-mail, many in one message.

`sqllogs.findings.schedule` calls it after a search, in the same thread. The table of findings has what is to
be sent, so a receiver that is down loses nothing; the message is tried again after the next search.
"""

import html
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from django.core import mail
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from sqllogs import guard
from sqllogs.conf import Conf
from sqllogs.errors import NotificationError
from sqllogs.models import LIVE, DetectionTurn, Finding
from sqllogs.read.findings import summary
from sqllogs.storage.database import only_row

COOLDOWN = timedelta(minutes=15)
"""Minimum time between two messages to a receiver; findings in between share the next message."""
RETRY_AFTER_MAX = timedelta(hours=1)
"""Longest pause that a receiver can request."""
LISTED_MAX = 20
"""Maximum findings listed in a message; the others are only counted."""
TIMEOUT_S = 5.0
"""Maximum time for a receiver to respond; if it takes longer, it gets the message again."""
SENT = ("id", "kind", "state", "fingerprint", "call_site", "route", "release", "event", "occurrences")
"""Fields of a finding that are sent as JSON; the text of a statement never is."""


class Receiver(NamedTuple):
    """A destination of messages."""

    name: str
    column: str
    """The column of `Finding` and of `DetectionTurn` with the time of the last message."""
    send: Callable[[Sequence[Finding], int], None]
    """Send some findings and the number of all; raise an exception if that fails."""


def receivers(settings: Conf) -> list[Receiver]:
    """Return the receivers that the settings name."""
    found = []
    if settings.findings_webhook:
        url, form = settings.findings_webhook, settings.findings_webhook_format
        found.append(Receiver("webhook", "notified_at", lambda *sent: _post(url, form, *sent)))
    if settings.findings_email:
        to = list(settings.findings_email)
        found.append(Receiver("e-mail", "mailed_at", lambda *sent: _mail(to, *sent)))
    return found


def notify(settings: Conf, now: datetime) -> int:
    """Send the messages that are due; return their number. Failures are counted and logged."""
    return sum(_notify(receiver, now) for receiver in receivers(settings))


def _notify(receiver: Receiver, now: datetime) -> bool:
    """Send a receiver the findings that it has not received yet; return whether a message was sent."""
    due = Finding.objects.filter(**{f"{receiver.column}__isnull": True}, state__in=LIVE)
    count = due.count()
    last = due.order_by("-pk").values_list("pk", flat=True).first()  # later findings are sent next time
    if last is None or not _take_turn(receiver, now):
        return False
    try:
        receiver.send(list(due.order_by("-occurrences", "pk")[:LISTED_MAX]), count)
    except Exception as exc:
        pause = min(_retry_after(exc, now), RETRY_AFTER_MAX)
        if pause > COOLDOWN:
            DetectionTurn.objects.update(**{receiver.column: now + pause - COOLDOWN})
        message = f"Findings could not be sent by {receiver.name}, they are sent later: {_reason(exc)}"
        guard.fault(f"findings {receiver.name}", NotificationError(message))
        return False
    due.filter(pk__lte=last).update(**{receiver.column: now})
    return True


def _take_turn(receiver: Receiver, now: datetime) -> bool:
    """Return False if the last message is too recent, or another process is sending one."""
    turns = DetectionTurn.objects.all()
    last_at = getattr(only_row(turns, taken_at=0), receiver.column)
    # A receiver that requested a pause has a later time. Any later than that is ignored, because it was set
    # by a host whose clock was ahead.
    if last_at is not None and now - COOLDOWN < last_at <= now + RETRY_AFTER_MAX - COOLDOWN:
        return False
    # Set before sending, because a receiver that responds too late has the message and must not get it after
    # each search. If several processes have read the same time, the condition is true for only one of them.
    unchanged = {f"{receiver.column}__isnull": True} if last_at is None else {receiver.column: last_at}
    return bool(turns.filter(**unchanged).update(**{receiver.column: now}))


def send_test(settings: Conf) -> list[str]:
    """Send a message without findings to each receiver; return their names. Raise NotificationError."""
    names = []
    for receiver in receivers(settings):
        try:
            receiver.send([], 0)
        except Exception as exc:
            raise NotificationError(f"{receiver.name}: {_reason(exc)}") from exc
        names.append(receiver.name)
    return names


def _reason(exc: Exception) -> str:
    """Describe an error without its message, which may contain part of the URL."""
    if isinstance(exc, HTTPError):
        pause = _retry_after(exc, datetime.now(UTC))
        return f"HTTP {exc.code}" + (f", again in {pause.total_seconds():.0f} s" if pause else "")
    cause = exc.reason if isinstance(exc, URLError) else exc
    text = getattr(cause, "strerror", None)
    return text if isinstance(text, str) else type(cause).__name__


def _retry_after(exc: Exception, now: datetime) -> timedelta:
    """Return how long a receiver asks to wait by its header `Retry-After`, in seconds or as a date."""
    if not isinstance(exc, HTTPError) or exc.code not in (429, 503):
        return timedelta()
    text = exc.headers.get("Retry-After", "").strip()
    try:
        if text.isascii() and text.isdigit():
            return timedelta(seconds=int(text[:9]))
        until = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # no date, or one whose numbers do not fit
        return timedelta()
    # -0000 is UTC too, but is parsed without a zone.
    return max((until if until.tzinfo else until.replace(tzinfo=UTC)) - now, timedelta())


class _Unmoved(HTTPRedirectHandler):
    """Raises HTTPError for a redirect: the request that follows it would be a GET without the message."""

    def redirect_request(self, *arguments: object) -> None:
        return None


def _post(url: str, form: str, findings: Sequence[Finding], count: int) -> None:
    lines = [_title(count), *map(_line, findings), *_more(findings, count)]
    text = "\n".join(lines)
    # Escaped, because Slack reads `<lambda>` as a link.
    body: dict[str, object] = {"text": html.escape(text, quote=False) if form == "slack" else text}
    if form == "json":
        rows = [{name: getattr(one, name) for name in SENT} | {"summary": summary(one)} for one in findings]
        body |= {"count": count, "findings": rows}
    headers = {"Content-Type": "application/json", "User-Agent": "sqllogs"}
    # The setting's check has validated the scheme. All but 2xx raise HTTPError. The response is not read,
    # because it may never end or break off, although the message has arrived.
    request = Request(url, json.dumps(body).encode(), headers)  # noqa: S310
    try:
        build_opener(_Unmoved).open(request, timeout=TIMEOUT_S).close()
    except HTTPError as exc:
        exc.close()  # it has the connection; Python 3.14 warns of one that is left open
        raise


def _mail(to: list[str], findings: Sequence[Finding], count: int) -> None:
    lines = [*map(_line, findings), *_more(findings, count)] or [_("This is a test of the SQL log.")]
    mailers = getattr(mail, "mailers", None)  # since Django 6.1
    connection: Any = mail.get_connection() if mailers is None else mailers.default
    if getattr(connection, "timeout", 0) is None:  # SMTP without EMAIL_TIMEOUT would wait for ever
        connection.timeout = TIMEOUT_S
    message = mail.EmailMessage(_title(count), "\n".join(lines), None, to)  # None: from DEFAULT_FROM_EMAIL
    connection.send_messages([message])


def _title(count: int) -> str:
    if not count:
        return _("SQL log: test message")
    return ngettext("SQL log: %(count)s finding", "SQL log: %(count)s findings", count) % {"count": count}


def _line(finding: Finding) -> str:
    place = finding.call_site or finding.route or finding.fingerprint or ""
    since = _(", since %(event)s") % {"event": finding.event} if finding.event else ""
    return f"#{finding.pk} {finding.get_kind_display()}: {summary(finding)} {place}{since}".rstrip()


def _more(findings: Sequence[Finding], count: int) -> list[str]:
    left = count - len(findings)
    return [_("and %(count)s more: manage.py sqllogs findings") % {"count": left}] if left > 0 else []
