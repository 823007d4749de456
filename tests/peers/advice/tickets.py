"""Loops in the code of django-helpdesk."""

import re

from django.contrib.auth.models import User
from django.db.models import Max
from django.template.loader import render_to_string
from django.test import RequestFactory
from helpdesk.models import (
    FollowUp,
    FollowUpAttachment,
    IgnoreEmail,
    KBItem,
    Queue,
    Ticket,
    TicketCC,
    TicketChange,
    TicketDependency,
)  # fmt: skip
from helpdesk.serializers import DatatablesTicketSerializer, TicketSerializer

from tests.peers.advice.corpus import each, fetch, join, loop, new
from tests.peers.advice.rows import many


@loop(
    "django-helpdesk", "models.py KBItem.__str__", lambda: many(KBItem), *join("helpdesk.KBItem", "category")
)
def helpdesk_item(q):
    return [str(row) for row in q(KBItem)]


@loop(
    "django-helpdesk",
    "models.py FollowUp.get_absolute_url",
    lambda: many(FollowUp),
    *join("helpdesk.FollowUp", "ticket"),
)
def helpdesk_follow_up(q):
    return [row.get_absolute_url() for row in q(FollowUp)]


@loop(
    "django-helpdesk",
    "models.py Ticket.get_assigned_to",
    lambda: many(Ticket, assigned_to=new(User)),
    *join("helpdesk.Ticket", "assigned_to"),
)
def helpdesk_assigned(q):
    return [row.get_assigned_to for row in q(Ticket)]


@loop(
    "django-helpdesk",
    "models.py Ticket.time_spent",
    each(FollowUp, "ticket", lambda: many(Ticket)),
    ("annotate", 'helpdesk.Ticket: annotate(followup_set_sum=Sum("followup__time_spent"))'),
    followed=lambda q: [row.followup_set_sum for row in q(Ticket)],
)
def helpdesk_time_spent(q):
    return [row.time_spent for row in q(Ticket)]


RESOLVED = (
    "annotate",
    (
        "helpdesk.Ticket: annotate(has_ticketdependency=Exists(TicketDependency.objects.filter("
        'ticket=OuterRef("pk"), depends_on__status__in=...)))'
    ),
)


@loop(
    "django-helpdesk",
    "models.py Ticket.can_be_resolved",
    each(TicketDependency, "ticket", lambda: many(Ticket), depends_on=new(Ticket)),
    RESOLVED,
    fills=("Ticket.OPEN_STATUSES",),
    followed=lambda q: [not row.has_ticketdependency for row in q(Ticket)],
)
def helpdesk_can_be_resolved(q):
    return [row.can_be_resolved for row in q(Ticket)]


def ignored_queues():
    for ignored in many(IgnoreEmail):
        ignored.queues.set(many(Queue, 2))


@loop(
    "django-helpdesk",
    "models.py IgnoreEmail.queue_list",
    ignored_queues,
    (
        "prefetch_related",
        (
            'helpdesk.IgnoreEmail: prefetch_related(Prefetch("queues", '
            'queryset=Queue.objects.order_by("title"), to_attr="..."))'
        ),
    ),
    fills=("ordered",),
    followed=lambda q: [", ".join(str(one) for one in row.ordered) for row in q(IgnoreEmail)],
)
def helpdesk_ignored(q):
    return [row.queue_list() for row in q(IgnoreEmail)]


@loop(
    "django-helpdesk",
    "models.py TicketCC.display",
    lambda: many(TicketCC, user=new(User)),
    *join("helpdesk.TicketCC", "user"),
)
def helpdesk_copies(q):
    return [row.display for row in q(TicketCC)]


class AnnotatedTicket(Ticket):
    """With the annotations in place of what the properties compute."""

    time_spent = can_be_resolved = None

    class Meta:
        proxy = True
        app_label = "helpdesk"


def helpdesk_followed_table(q):
    rows = q(Ticket).annotate(last_followup=Max("followup__date"))
    for row in rows:
        row.__class__ = AnnotatedTicket
        row.time_spent, row.can_be_resolved = row.followup_set_sum, not row.has_ticketdependency
    return DatatablesTicketSerializer(rows, many=True).data


@loop(
    "django-helpdesk",
    "serializers.py DatatablesTicketSerializer",
    lambda: many(Ticket, assigned_to=new(User), kbitem=new(KBItem)),
    *join("helpdesk.Ticket", "queue"),
    RESOLVED,
    *join("helpdesk.Ticket", "assigned_to"),
    ("annotate", 'helpdesk.Ticket: annotate(followup_set_sum=Sum("followup__time_spent"))'),
    *join("helpdesk.Ticket", "kbitem"),
    fills=("Ticket.OPEN_STATUSES",),
    followed=helpdesk_followed_table,
)
def helpdesk_tickets_table(q):
    return DatatablesTicketSerializer(q(Ticket).annotate(last_followup=Max("followup__date")), many=True).data


@loop(
    "django-helpdesk",
    "serializers.py TicketSerializer",
    lambda: [
        many(FollowUpAttachment, 1, followup=up)
        for ticket in many(Ticket)
        for up in many(FollowUp, 2, ticket=ticket)
    ],
    fetch("helpdesk.Ticket", "followup_set"),
    fetch("helpdesk.Ticket", "followup_set__followupattachment_set"),
)
def helpdesk_tickets(q):
    return TicketSerializer(q(Ticket), many=True).data


@loop(
    "django-helpdesk",
    "templates/helpdesk/include/ticket_followup_list.html",
    lambda: [many(TicketChange, 2, followup=up) for up in many(FollowUp, user=new(User))],
    *join("helpdesk.FollowUp", "user"),
    fetch("helpdesk.FollowUp", "ticketchange_set"),
)
def helpdesk_follow_ups(q):
    request = RequestFactory().get("/")
    request.user = User()
    text = render_to_string(
        "helpdesk/include/ticket_followup_list.html",
        {"followups": q(FollowUp), "ticket": Ticket(pk=1)},
        request,
    )
    return re.sub(r"</?time.*?>[^<]*", "", text)  # "a second ago" is another text a second later
