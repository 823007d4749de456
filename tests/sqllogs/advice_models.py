"""The models of the loops in tests/sqllogs/advice_loops.py, as those of a library's site."""

from django.contrib.auth.models import Group
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models

ROWS = 7


class Named(models.Model):
    name = models.CharField(max_length=50)

    class Meta:
        abstract = True
        app_label = "shelf"

    def __str__(self):
        return self.name


class Country(Named):
    class Meta:
        app_label = "shelf"


class Publisher(Named):
    class Meta:
        app_label = "shelf"


class Tag(Named):
    class Meta:
        app_label = "shelf"


class Author(Named):
    country = models.ForeignKey(Country, models.CASCADE)
    biography = models.TextField(default="long")

    class Meta:
        app_label = "shelf"


class Affordable(models.QuerySet):
    def affordable(self):
        return self.filter(price__lt=4)


class Book(models.Model):
    title = models.CharField(max_length=50)
    author = models.ForeignKey(Author, models.CASCADE, related_name="books")
    publisher = models.ForeignKey(Publisher, models.CASCADE, related_name="+")
    tags = models.ManyToManyField(Tag, related_name="tagged")
    price = models.IntegerField(default=0)
    text = models.TextField(default="long")

    objects = Affordable.as_manager()

    class Meta:
        app_label = "shelf"

    def __str__(self):
        return self.title

    @property
    def country_name(self):
        return self.author.country.name


class Cover(models.Model):
    book = models.OneToOneField(Book, models.CASCADE)
    colour = models.CharField(max_length=50)

    class Meta:
        app_label = "shelf"

    def __str__(self):
        return f"{self.colour} cover of {self.book.title}"


class Review(models.Model):
    book = models.ForeignKey(Book, models.CASCADE)
    group = models.ForeignKey(Group, models.CASCADE)

    class Meta:
        app_label = "shelf"

    def __str__(self):
        return f"review of {self.book.title}"


class Person(Named):
    country = models.ForeignKey(Country, models.CASCADE)

    class Meta:
        app_label = "shelf"


class Employee(Person):
    desk = models.IntegerField(default=1)

    class Meta:
        app_label = "shelf"


class Club(Named):
    members = models.ManyToManyField(Person, through="Membership", related_name="clubs")

    class Meta:
        app_label = "shelf"


class Membership(models.Model):
    club = models.ForeignKey(Club, models.CASCADE)
    person = models.ForeignKey(Person, models.CASCADE)

    class Meta:
        app_label = "shelf"

    def __str__(self):
        return "member"


class Note(models.Model):
    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.IntegerField()
    target = GenericForeignKey()
    text = models.CharField(max_length=50)

    class Meta:
        app_label = "shelf"

    def __str__(self):
        return self.text


class Post(Named):
    notes = GenericRelation(Note)

    class Meta:
        app_label = "shelf"


class Topic(Named):
    first_reply = models.ForeignKey("Reply", models.CASCADE, null=True, related_name="+")

    class Meta:
        app_label = "shelf"

    @property
    def has_replies(self):
        return self.replies.exists()


class Reply(models.Model):
    topic = models.ForeignKey(Topic, models.CASCADE, related_name="replies")
    author = models.ForeignKey(Author, models.CASCADE, related_name="+")
    text = models.CharField(max_length=50)

    class Meta:
        app_label = "shelf"
        ordering = ("-text",)

    def __str__(self):
        return self.text


MODELS = (
    Country, Publisher, Tag, Author, Book, Cover, Review, Person, Employee, Club, Membership, Note, Post,
    Topic, Reply,
)  # fmt: skip
THROUGH = Book.tags.through


def populate():
    for number in range(ROWS):
        country = Country.objects.create(name=f"country {number}")
        author = Author.objects.create(name=f"author {number}", country=country)
        publisher = Publisher.objects.create(name=f"publisher {number}")
        group = Group.objects.create(name=f"group {number}")
        tag = Tag.objects.create(name=f"tag {number}")
        employee = Employee.objects.create(name=f"employee {number}", country=country)
        club = Club.objects.create(name=f"club {number}")
        post = Post.objects.create(name=f"post {number}")
        Membership.objects.create(club=club, person=employee.person_ptr)
        for copy in range(3):
            title = f"book {number} {copy}"
            book = Book.objects.create(title=title, author=author, publisher=publisher, price=number + copy)
            book.tags.add(tag)
            Cover.objects.create(book=book, colour="red")
            Review.objects.create(book=book, group=group)
        topic = Topic.objects.create(name=f"topic {number}")
        for text in ("first", "second"):
            topic.first_reply = Reply.objects.create(topic=topic, author=author, text=f"{text} {number}")
        topic.save()
        Note.objects.create(target=group, text="of a group")
        Note.objects.create(
            content_type=ContentType.objects.get_for_model(Post), object_id=post.pk, text="of a post"
        )
