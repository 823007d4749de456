"""Models that are unlike those of the shelf: managers by other names, keys that are no `id`, trees, children.

Feeds tests/sqllogs/advice_yard_loops.py.
"""

from django.contrib.auth.models import User
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models

ROWS = 7


class Titled(models.Model):
    name = models.CharField(max_length=50)

    class Meta:
        abstract = True
        app_label = "yard"

    def __str__(self):
        return self.name


class Place(Titled):
    class Meta:
        app_label = "yard"


class Restaurant(Place):
    seats = models.IntegerField(default=4)

    class Meta:
        app_label = "yard"


class Cook(Titled):
    teacher = models.ForeignKey("self", models.SET_NULL, null=True)
    partners = models.ManyToManyField("self")

    class Meta:
        app_label = "yard"


class Chef(Cook):
    stars = models.IntegerField(default=1)

    class Meta:
        app_label = "yard"


class Licence(models.Model):
    place = models.OneToOneField(Place, models.CASCADE)
    number = models.IntegerField()

    class Meta:
        app_label = "yard"

    def __str__(self):
        return "licence"


class Opinion(Titled):
    place = models.ForeignKey(Place, models.CASCADE, related_name="opinions")

    class Meta:
        app_label = "yard"


class Open(models.Manager):
    def get_queryset(self):
        return super().get_queryset().filter(is_open=True)


class Kept(models.Manager):
    def get_queryset(self):
        return super().get_queryset().exclude(state="deleted")


class Room(Titled):
    place = models.ForeignKey(Place, models.CASCADE, related_name="rooms")
    is_open = models.BooleanField()

    objects = Open()

    class Meta:
        app_label = "yard"


class Chair(models.Model):
    place = models.ForeignKey(Place, models.CASCADE, related_name="chairs")
    state = models.CharField(max_length=20)

    objects = Kept()
    everything = models.Manager()  # noqa: DJ012 - the first manager is the default

    class Meta:
        app_label = "yard"

    def __str__(self):
        return "chair"


class Slot(models.Model):
    pk = models.CompositePrimaryKey("place_id", "number")
    place = models.ForeignKey(Place, models.CASCADE, related_name="slots")
    number = models.IntegerField()

    class Meta:
        app_label = "yard"

    def __str__(self):
        return "slot"


class Guest(models.Model):
    place = models.ForeignKey(Place, models.CASCADE, related_name="+")
    number = models.IntegerField()
    slot = models.ForeignObject(
        Slot, models.CASCADE, ("place", "number"), ("place", "number"), related_name="guests"
    )

    class Meta:
        app_label = "yard"

    def __str__(self):
        return "guest"


class Remark(Titled):
    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.CharField(max_length=20)
    on = GenericForeignKey()

    class Meta:
        app_label = "yard"


class Company(Titled):
    code = models.CharField(max_length=20, unique=True)
    remarks = GenericRelation(Remark)

    class Meta:
        app_label = "yard"


class Firm(Company):
    class Meta:
        proxy = True
        app_label = "yard"


class Desk(Titled):
    company = models.ForeignKey(Company, models.CASCADE, to_field="code", related_name="desks")

    class Meta:
        app_label = "yard"


class Branch(Titled):
    head = models.ForeignKey(Firm, models.CASCADE, related_name="branches")

    class Meta:
        app_label = "yard"


class Active(models.Manager):
    def get_queryset(self):
        return super().get_queryset().filter(is_active=True)


class Worker(Titled):
    company = models.ForeignKey(Company, models.SET_NULL, null=True)
    boss = models.ForeignKey("self", models.SET_NULL, null=True, related_name="reports")
    is_active = models.BooleanField(default=True)
    score = models.IntegerField(default=0)

    people = models.Manager()
    active = Active()

    class Meta:
        app_label = "yard"


class Project(Titled):
    workers = models.ManyToManyField(Worker, through="Assignment", related_name="projects")

    class Meta:
        app_label = "yard"
        ordering = ("name",)


class Assignment(models.Model):
    project = models.ForeignKey(Project, models.CASCADE)
    worker = models.ForeignKey(Worker, models.CASCADE)
    hours = models.IntegerField(default=1)

    class Meta:
        app_label = "yard"

    def __str__(self):
        return "assignment"


class Label(Titled):
    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.IntegerField()
    on = GenericForeignKey()

    class Meta:
        app_label = "yard"


class Crate(Titled):
    labels = GenericRelation(Label, related_query_name="crate")

    class Meta:
        app_label = "yard"


class Box(Titled):
    labels = GenericRelation(Label)

    class Meta:
        app_label = "yard"


class Ticket(Titled):
    owner = models.ForeignKey(User, models.CASCADE, related_name="yard_tickets")

    class Meta:
        app_label = "yard"


MODELS = (
    Place, Restaurant, Cook, Chef, Licence, Opinion, Room, Chair, Slot, Guest, Remark, Company, Desk,
    Branch, Worker, Project, Assignment, Label, Crate, Box, Ticket,
)  # fmt: skip


def populate():
    for number in range(ROWS):
        company = Company.objects.create(code=f"code {number}", name=f"company {number}")
        boss = Worker.people.create(name=f"boss {number}", score=number)
        first = Worker.people.create(name=f"first {number}", company=company, boss=boss, is_active=False)
        second = Worker.people.create(name=f"second {number}", company=company, boss=boss, score=number)
        project = Project.objects.create(name=f"project {number}")
        for worker in (first, second):
            Assignment.objects.create(project=project, worker=worker, hours=number)
            Desk.objects.create(company=company, name=f"desk of {worker}")
        Remark.objects.create(on=company, name="of a company")
        Branch.objects.create(head_id=company.pk, name=f"branch {number}")
        place = Restaurant.objects.create(name=f"restaurant {number}").place_ptr
        cook = Cook.objects.create(name=f"cook {number}")
        Chef.objects.create(name=f"chef {number}", teacher=cook).partners.add(cook)
        Licence.objects.create(place=place, number=number)
        Slot.objects.create(place=place, number=number)
        Guest.objects.create(place=place, number=number)
        for state in ("new", "deleted"):
            Opinion.objects.create(place=place, name=f"{state} {number}")
            Chair.objects.create(place=place, state=state)
            Room.objects.create(place=place, name=f"{state} {number}", is_open=state == "new")
        for target in (
            Crate.objects.create(name=f"crate {number}"),
            Box.objects.create(name=f"box {number}"),
        ):
            for name in ("red", "blue"):
                Label.objects.create(on=target, name=name)
        owner = User.objects.create(username=f"owner {number}")
        Ticket.objects.create(owner=owner, name=f"ticket {number}")


def clear():
    User.objects.filter(username__startswith="owner ").delete()
    ContentType.objects.filter(app_label="yard").delete()
