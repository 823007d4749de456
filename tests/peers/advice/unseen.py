"""Loops that were collected after our rules had been changed for those of the other modules."""

from django.contrib.auth.models import User
from django.utils import timezone
from django_fsm_log.models import StateLog
from django_q.models import Schedule
from django_q.models import Task as QueuedTask
from hordak.models import Leg
from newsletter.models import Article, Attachment, Message, Newsletter, Submission, Subscription
from organizations.models import Organization, OrganizationUser
from photologue.models import Gallery, Photo, PhotoSize
from pinax.likes.models import Like
from schedule.models import Event, EventRelation, Rule
from survey.models import Answer, Question, Response
from survey.models import Survey as QuestionSurvey

from tests.peers.advice.corpus import each, fetch, generic, join, loop, new
from tests.peers.advice.rows import ROWS, make, many


@loop(
    "django-organizations",
    "abstract.py AbstractOrganizationUser.__str__",
    lambda: many(OrganizationUser, user=new(User, is_active=True)),
    *join("organizations.OrganizationUser", "user", "organization"),
)
def organizations_user(q):
    return [str(row) for row in q(OrganizationUser)]


@loop(
    "django-organizations",
    "abstract.py AbstractOrganization.is_admin",
    each(OrganizationUser, "organization", lambda: many(Organization), is_admin=True),
    (
        "prefetch_related",
        (
            'organizations.Organization: prefetch_related(Prefetch("organization_users", '
            'queryset=OrganizationUser.objects.filter(is_admin=..., user=...), to_attr="..."))'
        ),
    ),
    fills=("True", "1", "admins"),
    followed=lambda q: [bool(row.admins) for row in q(Organization)],
)
def organizations_admin(q):
    return [row.is_admin(User(pk=1)) for row in q(Organization)]


@loop(
    "pinax-likes",
    "models.py Like.__str__",
    generic(
        Like,
        sender=lambda row, kind: make(User),
        receiver_object_id=lambda row, kind: row.pk,
        receiver_content_type=lambda row, kind: kind,
    ),
    *join("likes.Like", "sender"),
    fetch("likes.Like", "receiver"),
)
def likes(q):
    return [str(row) for row in q(Like)]


@loop(
    "django-hordak", "models/core.py Leg.__str__", lambda: many(Leg, debit=3), *join("hordak.Leg", "account")
)
def hordak_leg(q):
    return [str(row) for row in q(Leg)]


@loop(
    "django-survey-and-report",
    "models/response.py Response.__str__",
    lambda: many(Response, user=new(User)),
    *join("survey.Response", "survey", "user"),
)
def survey_response(q):
    return [str(row) for row in q(Response)]


@loop(
    "django-survey-and-report",
    "models/question.py Question.answers_as_text",
    each(Answer, "question", lambda: many(Question), body="yes"),
    fetch("survey.Question", "answers"),
)
def survey_answers(q):
    return [row.answers_as_text for row in q(Question)]


@loop(
    "django-survey-and-report",
    "models/answer.py Answer.__str__",
    lambda: many(Answer, body="yes"),
    *join("survey.Answer", "question"),
)
def survey_answer(q):
    return [str(row) for row in q(Answer)]


@loop(
    "django-survey-and-report",
    "models/survey.py Survey.latest_answer_date",
    each(Response, "survey", lambda: many(QuestionSurvey)),
    fetch("survey.Survey", "responses"),
)
def survey_latest(q):
    return [row.latest_answer_date() for row in q(QuestionSurvey)]


@loop(
    "django-fsm-log",
    "models.py StateLog.__str__",
    generic(StateLog, object_id=lambda row, kind: row.pk, content_type=lambda row, kind: kind),
    fetch("django_fsm_log.StateLog", "content_object"),
)
def state_log(q):
    return [str(row) for row in q(StateLog)]


@loop(
    "django-scheduler",
    "models/events.py EventRelation.__str__",
    generic(EventRelation, object_id=lambda row, kind: row.pk, content_type=lambda row, kind: kind),
    *join("schedule.EventRelation", "event"),
    fetch("schedule.EventRelation", "content_object"),
)
def schedule_relation(q):
    return [str(row) for row in q(EventRelation)]


@loop(
    "django-scheduler",
    "models/events.py Event.event_rule_params",
    lambda: many(Event, rule=new(Rule, frequency="DAILY", params="count:3")),
    *join("schedule.Event", "rule"),
)
def schedule_rule(q):
    return [row.event_rule_params for row in q(Event)]


def galleries():
    make(PhotoSize, name="thumbnail")
    for gallery in many(Gallery):
        photos = many(Photo, 2, is_public=True)
        gallery.photos.set(photos)
        for photo in photos:
            photo.sites.set([1])


@loop(
    "django-photologue",
    "models.py Gallery.photo_count",
    galleries,
    (
        "annotate",
        (
            'photologue.Gallery: annotate(photos_count=Count("photos", '
            "filter=Q(..., photos__is_public=...), distinct=True))"
        ),
    ),
    fills=("Q(photos__sites=1)", "True"),
    followed=lambda q: [row.photos_count for row in q(Gallery)],
)
def photo_count(q):
    return [row.photo_count() for row in q(Gallery)]


@loop(
    "django-photologue",
    "models.py Photo.public_galleries",
    galleries,
    (
        "prefetch_related",
        (
            'photologue.Photo: prefetch_related(Prefetch("galleries", '
            'queryset=Gallery.objects.filter(is_public=...), to_attr="..."))'
        ),
    ),
    fills=("True", "public"),
    followed=lambda q: [[one.pk for one in row.public] for row in q(Photo)],
)
def photo_galleries(q):
    return [[one.pk for one in row.public_galleries()] for row in q(Photo)]


@loop(
    "django-newsletter",
    "models.py Subscription.__str__",
    lambda: many(Subscription, user=new(User)),
    *join("newsletter.Subscription", "user", "newsletter"),
)
def newsletter_subscription(q):
    return [str(row) for row in q(Subscription)]


@loop(
    "django-newsletter",
    "models.py Message.__str__",
    lambda: many(Message, newsletter=new(Newsletter)),
    *join("newsletter.Message", "newsletter"),
)
def newsletter_message(q):
    return [str(row) for row in q(Message)]


@loop(
    "django-newsletter",
    "models.py Submission.__str__",
    lambda: many(Submission),
    *join("newsletter.Submission", "message", "message__newsletter"),
)
def newsletter_submission(q):
    return [str(row) for row in q(Submission)]


@loop(
    "django-newsletter",
    "models.py Attachment.__str__",
    lambda: many(Attachment, message=new(Message, newsletter=new(Newsletter))),
    *join("newsletter.Attachment", "message", "message__newsletter"),
)
def newsletter_attachment(q):
    return [str(row) for row in q(Attachment)]


@loop(
    "django-newsletter",
    "models.py Message.get_next_article_sortorder",
    each(Article, "post", lambda: many(Message, newsletter=new(Newsletter))),
    ("annotate", 'newsletter.Message: annotate(articles_max=Max("articles__sortorder"))'),
    followed=lambda q: [row.articles_max + 10 for row in q(Message)],
)
def newsletter_order(q):
    return [row.get_next_article_sortorder() for row in q(Message)]


@loop(
    "django-newsletter",
    "models.py Newsletter.get_subscriptions",
    each(Subscription, "newsletter", lambda: many(Newsletter), subscribed=True),
    (
        "prefetch_related",
        (
            'newsletter.Newsletter: prefetch_related(Prefetch("subscription_set", '
            'queryset=Subscription.objects.filter(subscribed=...), to_attr="..."))'
        ),
    ),
    fills=("True", "subscribed"),
    followed=lambda q: [[one.pk for one in row.subscribed] for row in q(Newsletter)],
)
def newsletter_subscriptions(q):
    return [[one.pk for one in row.get_subscriptions()] for row in q(Newsletter)]


def schedules():
    for number in range(ROWS):
        now = timezone.now()
        task = make(QueuedTask, id=f"task-{number}", success=True, started=now, stopped=now)
        make(Schedule, task=task.pk)


def follow_tasks(q):
    rows = list(q(Schedule))
    tasks = QueuedTask.objects.in_bulk([row.task for row in rows])
    return [tasks[row.task].success for row in rows]


@loop(
    "django-q2",
    "models.py Schedule.success",
    schedules,
    ("in_bulk", "django_q.Task: in_bulk(...)"),
    ("in_bulk", "django_q.Task: in_bulk(...)"),
    followed=follow_tasks,
)
def queue_success(q):
    return [row.success() for row in q(Schedule)]
