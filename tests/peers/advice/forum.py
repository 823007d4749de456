"""Loops in the code of django-machina."""

from functools import partial

from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.template.loader import render_to_string
from django.test import RequestFactory
from machina.apps.forum_permission.handler import PermissionHandler
from machina.core.db.models import get_model as machina_model

from tests.peers.advice.corpus import each, fetch, join, loop, new
from tests.peers.advice.rows import make, many

Topic, Post = (machina_model("forum_conversation", name) for name in ("Topic", "Post"))
ForumProfile = machina_model("forum_member", "ForumProfile")
TopicPoll, PollOption, PollVote = (
    machina_model("forum_polls", name) for name in ("TopicPoll", "TopicPollOption", "TopicPollVote")
)
PostAttachment = machina_model("forum_attachments", "Attachment")
ForumReadTrack = machina_model("forum_tracking", "ForumReadTrack")


@loop(
    "django-machina",
    "forum_member/abstract_models.py AbstractForumProfile.__str__",
    lambda: many(ForumProfile),
    *join("forum_member.ForumProfile", "user"),
)
def machina_profile(q):
    return [str(row) for row in q(ForumProfile)]


def topics_with_posts():
    for topic in many(Topic):
        topic.first_post = make(Post, topic=topic)
        topic._simple_save()


@loop(
    "django-machina",
    "forum_conversation/abstract_models.py AbstractTopic.__str__",
    topics_with_posts,
    *join("forum_conversation.Topic", "first_post"),
)
def machina_topic(q):
    return [str(row) for row in q(Topic)]


@loop(
    "django-machina",
    "forum_conversation/abstract_models.py AbstractPost.is_topic_head",
    topics_with_posts,
    *join("forum_conversation.Post", "topic", "topic__first_post"),
)
def machina_first_post(q):
    return [row.is_topic_head for row in q(Post)]


@loop(
    "django-machina",
    "forum_conversation/abstract_models.py AbstractPost.is_alone",
    topics_with_posts,
    *join("forum_conversation.Post", "topic"),
    ("annotate", 'forum_conversation.Post: annotate(topic_posts_count=Count("topic__posts", distinct=True))'),
    followed=lambda q: [row.topic_posts_count == 1 for row in q(Post)],
)
def machina_alone(q):
    return [row.is_alone for row in q(Post)]


@loop(
    "django-machina",
    "forum_conversation/abstract_models.py AbstractPost.position",
    topics_with_posts,
    *join("forum_conversation.Post", "topic"),
    (
        "annotate",
        (
            "forum_conversation.Post: annotate(topic_posts_count="
            'Count("topic__posts", filter=Q(...), distinct=True))'
        ),
    ),
    fills=("Q(topic__posts__created__lt=F('created')) | Q(topic__posts__pk=F('pk'))",),
    followed=lambda q: [row.topic_posts_count for row in q(Post)],
)
def machina_position(q):
    return [row.position for row in q(Post)]


@loop(
    "django-machina",
    "forum_polls/abstract_models.py AbstractTopicPoll.votes",
    lambda: [
        many(PollVote, 2, poll_option=option)
        for poll in many(TopicPoll)
        for option in many(PollOption, 2, poll=poll)
    ],
    fetch("forum_polls.TopicPoll", "options"),
    fetch("forum_polls.TopicPoll", "options__votes"),
)
def machina_votes(q):
    return [[vote.pk for vote in row.votes] for row in q(TopicPoll)]


@loop(
    "django-machina",
    "forum_polls/abstract_models.py AbstractTopicPollVote.__str__",
    lambda: many(PollVote, voter=new(User)),
    *join(
        "forum_polls.TopicPollVote", "poll_option", "voter", "poll_option__poll", "poll_option__poll__topic"
    ),
)
def machina_vote(q):
    return [str(row) for row in q(PollVote)]


@loop(
    "django-machina",
    "forum_tracking/abstract_models.py AbstractForumReadTrack.__str__",
    lambda: many(ForumReadTrack),
    *join("forum_tracking.ForumReadTrack", "user", "forum"),
)
def machina_read_track(q):
    return [str(row) for row in q(ForumReadTrack)]


@loop(
    "django-machina",
    "templates/machina/forum_conversation/forum_attachments/attachments_detail.html",
    each(PostAttachment, "post", lambda: many(Post), file=partial(ContentFile, b"text", "a.txt")),
    *join("forum_conversation.Post", "topic", "topic__forum"),
    (
        "annotate",
        (
            "forum_conversation.Post: annotate(has_attachments=Exists("
            'Attachment.objects.filter(post=OuterRef("pk"))))'
        ),
    ),
    fetch("forum_conversation.Post", "attachments"),
)
def machina_attachments(q):
    name = "machina/forum_conversation/forum_attachments/attachments_detail.html"
    request = RequestFactory().get("/")
    request.user, request.forum_permission_handler = User(is_superuser=True), PermissionHandler()
    return [render_to_string(name, {"post": row}, request) for row in q(Post)]
