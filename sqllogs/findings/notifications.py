"""Send findings that are new or reopened to a webhook and by e-mail, many in one message.

What is to be sent stands in the table of findings, so a receiver that is down loses nothing as long as the
finding is kept; it is tried again after the next search. Runs in the thread that has searched, after it.
"""

import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from django.core.mail import send_mail
from django.db.models import Q
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from sqllogs import guard
from sqllogs.conf import Conf
from sqllogs.errors import NotificationError
from sqllogs.models import LIVE, Finding
from sqllogs.read.findings import summary

COOLDOWN = timedelta(minutes=15)
"""Between two messages to a receiver: findings of this time are in one message."""
LISTED_MAX = 20
"""Findings listed in a message; the others are only counted."""
TIMEOUT_S = 5.0
SENT = ("id", "kind", "state", "fingerprint", "call_site", "route", "release", "event", "occurrences")
"""What is sent of a finding as JSON; no text of a statement is."""


class Receiver(NamedTuple):
    """Where messages go."""

    name: str
    column: str
    """The column of `Finding` with the time of the last message."""
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
    """Send what is due; return the number of messages sent. A receiver that fails is counted and logged."""
    sent = 0
    for receiver in receivers(settings):
        recent = Finding.objects.filter(**{f"{receiver.column}__gt": now - COOLDOWN})
        due = Finding.objects.filter(Q(**{f"{receiver.column}__isnull": True}), state__in=LIVE)
        count = due.count()
        if not count or recent.exists():
            continue
        last = due.order_by("-pk").values_list("pk", flat=True)[0]  # one that is found meanwhile comes later
        try:
            receiver.send(list(due.order_by("-occurrences", "pk")[:LISTED_MAX]), count)
        except Exception as exc:
            message = f"Findings could not be sent by {receiver.name}, they are sent later: {_reason(exc)}"
            guard.fault(f"findings {receiver.name}", NotificationError(message))
            continue
        due.filter(pk__lte=last).update(**{receiver.column: now})
        sent += 1
    return sent


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
    """Return what an error is, without its message: that of a library may contain part of the URL."""
    if isinstance(exc, HTTPError):
        return f"HTTP {exc.code}"
    cause = exc.reason if isinstance(exc, URLError) else exc
    text = getattr(cause, "strerror", None)
    return text if isinstance(text, str) else type(cause).__name__


def _post(url: str, form: str, findings: Sequence[Finding], count: int) -> None:
    lines = [_title(count), *map(_line, findings), *_more(findings, count)]
    body: dict[str, object] = {"text": "\n".join(lines)}
    if form == "json":
        rows = [{name: getattr(one, name) for name in SENT} | {"summary": summary(one)} for one in findings]
        body |= {"count": count, "findings": rows}
    headers = {"Content-Type": "application/json", "User-Agent": "sqllogs"}
    # The scheme is checked with the setting; 4xx and 5xx raise HTTPError.
    request = Request(url, json.dumps(body).encode(), headers)  # noqa: S310
    with urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
        answer.read(1024)


def _mail(to: list[str], findings: Sequence[Finding], count: int) -> None:
    lines = [*map(_line, findings), *_more(findings, count)] or [_("This is a test of the SQL log.")]
    send_mail(_title(count), "\n".join(lines), None, to)  # None: from DEFAULT_FROM_EMAIL


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
