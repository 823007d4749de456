"""Loops in the code of smaller packages, and of parts of large ones."""

from actstream.models import Action, Follow
from allauth.account.models import EmailConfirmation
from django.contrib.auth.models import Group, User
from django.contrib.contenttypes.models import ContentType
from django.utils import timezone
from django_comments.models import CommentFlag
from django_comments_xtd.models import XtdComment
from django_nyt.models import Notification, Settings, Subscription
from filer.models import Clipboard, File, Folder
from guardian.models import GroupObjectPermission, UserObjectPermission
from reversion.models import Revision, Version
from taggit.models import TaggedItem
from wagtail.contrib.search_promotions.models import Query as SearchQuery
from wagtail.contrib.search_promotions.models import QueryDailyHits, SearchPromotion
from wagtail.users.models import UserProfile
from wiki.models import Article, ArticleRevision
from wiki.plugins.attachments.models import Attachment, AttachmentRevision

from tests.peers.advice.corpus import count, each, fetch, generic, join, loop, new
from tests.peers.advice.rows import make, many


@loop(
    "django-taggit",
    "models.py ItemBase.__str__",
    generic(TaggedItem, object_id=lambda row, kind: row.pk, content_type=lambda row, kind: kind),
    fetch("taggit.TaggedItem", "content_object"),
    *join("taggit.TaggedItem", "tag"),
)
def taggit_item(q):
    return [str(row) for row in q(TaggedItem)]


@loop(
    "django-guardian",
    "models/models.py BaseObjectPermission.__str__ of a user",
    generic(
        UserObjectPermission, object_pk=lambda row, kind: str(row.pk), content_type=lambda row, kind: kind
    ),
    fetch("guardian.UserObjectPermission", "content_object"),
    *join("guardian.UserObjectPermission", "user", "permission"),
)
def guardian_user_permission(q):
    return [str(row) for row in q(UserObjectPermission)]


@loop(
    "django-guardian",
    "models/models.py BaseObjectPermission.__str__ of a group",
    generic(
        GroupObjectPermission,
        User,
        group=lambda row, kind: make(Group),
        object_pk=lambda row, kind: str(row.pk),
        content_type=lambda row, kind: kind,
    ),
    fetch("guardian.GroupObjectPermission", "content_object"),
    *join("guardian.GroupObjectPermission", "group", "permission"),
)
def guardian_group_permission(q):
    return [str(row) for row in q(GroupObjectPermission)]


@loop(
    "django-reversion",
    "models.py Revision.__str__",
    each(Version, "revision", lambda: many(Revision)),
    fetch("reversion.Revision", "version_set"),
)
def reversion_revision(q):
    return [str(row) for row in q(Revision)]


@loop(
    "django-filer",
    "models/foldermodels.py Folder.file_count",
    each(File, "folder", lambda: many(Folder)),
    count("filer.Folder", "all_files"),
    followed=lambda q: [row.all_files_count for row in q(Folder)],
)
def filer_file_count(q):
    return [row.file_count for row in q(Folder)]


@loop(
    "django-filer",
    "models/foldermodels.py Folder.children_count",
    each(Folder, "parent", lambda: many(Folder)),
    ("annotate", 'filer.Folder: annotate(annotated_children_count=Count("children", distinct=True))'),
    followed=lambda q: [row.annotated_children_count for row in q(Folder).filter(parent=None)],
)
def filer_children_count(q):
    return [row.children_count for row in q(Folder).filter(parent=None)]


@loop(
    "django-filer",
    "models/foldermodels.py Folder.pretty_logical_path",
    lambda: many(Folder, parent=new(Folder, name="top")),
    *join("filer.Folder", "parent"),
)
def filer_path(q):
    return [row.pretty_logical_path for row in q(Folder).exclude(name="top")]


@loop(
    "django-filer",
    "models/clipboardmodels.py Clipboard.__str__",
    lambda: many(Clipboard),
    *join("filer.Clipboard", "user"),
)
def filer_clipboard(q):
    return [str(row) for row in q(Clipboard)]


# wiki, django-nyt


def articles():
    for article in many(Article):
        article.current_revision = make(ArticleRevision, article=article)
        article.save()


@loop("wiki", "models/article.py Article.__str__", articles, *join("wiki.Article", "current_revision"))
def wiki_article(q):
    return [str(row) for row in q(Article)]


def attachments():
    for article in (articles(), list(Article.objects.all()))[1]:
        make(AttachmentRevision, attachment=make(Attachment, article=article))


@loop(
    "wiki",
    "plugins/attachments/models.py AttachmentRevision.__str__",
    attachments,
    *join(
        "wiki_attachments.AttachmentRevision",
        "attachment",
        "attachment__article",
        "attachment__article__current_revision",
    ),
)
def wiki_attachment_revision(q):
    return [str(row) for row in q(AttachmentRevision)]


@loop(
    "django-nyt", "models.py Settings.__str__", lambda: many(Settings), *join("django_nyt.Settings", "user")
)
def nyt_settings(q):
    return [str(row) for row in q(Settings)]


@loop(
    "django-nyt",
    "models.py Subscription.__str__",
    lambda: many(Subscription),
    *join("django_nyt.Subscription", "settings", "settings__user"),
)
def nyt_subscription(q):
    return [str(row) for row in q(Subscription)]


@loop(
    "django-nyt",
    "models.py Notification.__str__",
    lambda: many(Notification, user=new(User)),
    *join("django_nyt.Notification", "user"),
)
def nyt_notification(q):
    return [str(row) for row in q(Notification)]


# actstream, comments, allauth


@loop(
    "django-activity-stream",
    "models.py Follow.__str__",
    generic(Follow, object_id=lambda row, kind: str(row.pk), content_type=lambda row, kind: kind),
    *join("actstream.Follow", "user"),
    fetch("actstream.Follow", "follow_object"),
)
def actstream_follow(q):
    return [str(row) for row in q(Follow)]


@loop(
    "django-activity-stream",
    "models.py Action.__str__",
    generic(
        Action,
        actor_object_id=lambda row, kind: str(row.pk),
        actor_content_type=lambda row, kind: kind,
        target_object_id=lambda row, kind: str(make(User).pk),
        target_content_type=lambda row, kind: ContentType.objects.get_for_model(User),
    ),
    fetch("actstream.Action", "actor"),
    fetch("actstream.Action", "target"),
)
def actstream_action(q):
    return [str(row) for row in q(Action)]


@loop(
    "django-contrib-comments",
    "models.py CommentFlag.__str__",
    lambda: many(
        CommentFlag,
        flag_date=timezone.now(),
        comment=new(XtdComment, object_pk="1", submit_date=timezone.now()),
    ),
    *join("django_comments.CommentFlag", "user"),
)
def comments_flag(q):
    return [str(row) for row in q(CommentFlag)]


@loop(
    "django-allauth",
    "account/models.py EmailConfirmation.__str__",
    lambda: many(EmailConfirmation),
    *join("account.EmailConfirmation", "email_address"),
)
def allauth_confirmation(q):
    return [str(row) for row in q(EmailConfirmation)]


# wagtail, django-cms


@loop(
    "wagtail",
    "users/models.py UserProfile.__str__",
    lambda: many(UserProfile),
    *join("wagtailusers.UserProfile", "user"),
)
def wagtail_profile(q):
    return [str(row) for row in q(UserProfile)]


@loop(
    "wagtail",
    "contrib/search_promotions/models.py Query.hits",
    each(QueryDailyHits, "query", lambda: many(SearchQuery), 1, hits=3),
    ("annotate", 'wagtailsearchpromotions.Query: annotate(daily_hits_sum=Sum("daily_hits__hits"))'),
    followed=lambda q: [row.daily_hits_sum for row in q(SearchQuery)],
)
def wagtail_hits(q):
    return [row.hits for row in q(SearchQuery)]


@loop(
    "wagtail",
    "contrib/search_promotions/models.py SearchPromotion.__str__",
    lambda: many(SearchPromotion),
    *join("wagtailsearchpromotions.SearchPromotion", "query"),
)
def wagtail_promotion(q):
    return [str(row) for row in q(SearchPromotion)]
