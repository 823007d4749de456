"""Loops that were written after the rules, as those of another developer's site; see `advice_loops`.

Of 97 such loops these are those that the rules got wrong at first, and some of each kind that they got right.
"""

from asgiref.sync import async_to_sync
from django.contrib import admin
from django.contrib.admin.templatetags.admin_list import results
from django.contrib.auth.models import User
from django.core import serializers as core_serializers
from django.db.models import Avg, Count, Prefetch, Q
from django.test import RequestFactory
from django.utils.functional import cached_property
from rest_framework import serializers

from tests.sqllogs.advice_loops import follow, loop, render
from tests.sqllogs.advice_models import Book, Note
from tests.sqllogs.advice_yard import (
    Box,
    Chef,
    Company,
    Crate,
    Desk,
    Firm,
    Licence,
    Opinion,
    Place,
    Project,
    Restaurant,
    Room,
    Slot,
    Ticket,
    Worker,
)  # fmt: skip


def join(name, on="Worker"):
    return "select_related", f'yard.{on}: select_related("{name}")'


def fetch(name, on="Company"):
    return "prefetch_related", f'yard.{on}: prefetch_related("{name}")'


def figure(code, on="Company"):
    return "annotate", f"yard.{on}: annotate({code})"


def chosen(rows, name="worker_set", on="Company"):
    code = f'prefetch_related(Prefetch("{name}", queryset={rows}, to_attr="..."))'
    return "prefetch_related", f"yard.{on}: {code}"


def names_of(attribute, on=Company):
    """Return the loop that reads a relation, or the attribute of a Prefetch."""

    def run(q):
        return [[one.name for one in getattr(row, attribute)] for row in q(on)]

    return run


# A manager with another name than `objects`, and one that leaves rows out.


@loop(chosen("Worker.people.filter(score__gt=...)", "workers", "Project"), fills=("2", "chosen"))
def filter_beside_a_prefetch(q):
    projects = q(Project).prefetch_related("workers")
    return [[worker.name for worker in project.workers.filter(score__gt=2)] for project in projects]


follow("filter_beside_a_prefetch")(names_of("chosen", Project))


@loop(figure('has_worker_set=Exists(Worker.people.filter(company=OuterRef("pk")))'))
def manager_by_another_name(q):
    return render(
        "{% for one in all %}{% if one.worker_set.exists %}x{% endif %}{% endfor %}", all=q(Company)
    )


@follow("manager_by_another_name")
def manager_by_another_name_followed(q):
    return render("{% for one in all %}{% if one.has_worker_set %}x{% endif %}{% endfor %}", all=q(Company))


@loop(chosen("Worker.people.filter(is_active=...)"), fills=("True", "chosen"))
def manager_that_is_not_the_default(q):
    return [[worker.name for worker in Worker.active.filter(company=company)] for company in q(Company)]


follow("manager_that_is_not_the_default")(names_of("chosen"))


@loop(chosen('Worker.people.order_by("-score")[:1]'), fills=("chosen",))
def latest_by_a_field(q):
    return [company.worker_set.latest("score").name for company in q(Company)]


@follow("latest_by_a_field")
def latest_by_a_field_followed(q):
    return [company.chosen[0].name for company in q(Company)]


@loop(chosen("Worker.people.filter(...)"), fills=("Q(is_active=True) | Q(score=1)", "chosen"))
def alternatives_of_one_relation(q):
    wanted = Q(is_active=True) | Q(score=1)
    return [[worker.name for worker in company.worker_set.filter(wanted)] for company in q(Company)]


follow("alternatives_of_one_relation")(names_of("chosen"))


@loop(fetch("rooms", "Place"))
def default_manager_that_filters(q):
    return [[room.name for room in place.rooms.all()] for place in q(Place)]


@loop(fetch("rooms", "Place"))
def filter_by_the_object_with_such_a_manager(q):
    return [[room.name for room in Room.objects.filter(place=place)] for place in q(Place)]


follow("filter_by_the_object_with_such_a_manager")(default_manager_that_filters)


@loop(fetch("chairs", "Place"))
def default_manager_that_excludes(q):
    return [[chair.state for chair in place.chairs.all()] for place in q(Place)]


@loop(chosen("Chair.objects.filter(state=...)", "chairs", "Place"), fills=('"new"', "chosen"))
def condition_beside_what_is_excluded(q):
    return [[chair.state for chair in place.chairs.filter(state="new")] for place in q(Place)]


@follow("condition_beside_what_is_excluded")
def condition_beside_what_is_excluded_followed(q):
    return [[chair.state for chair in place.chosen] for place in q(Place)]


@loop(
    figure('rooms_count=Count("rooms", filter=Q(rooms__is_open=...), distinct=True)', "Place"),
    fills=("True",),
)
def count_with_such_a_manager(q):
    return [place.rooms.count() for place in q(Place)]


@follow("count_with_such_a_manager")
def count_with_such_a_manager_followed(q):
    return [place.rooms_count for place in q(Place)]


@loop(chosen("Chair.everything.all()", "chairs", "Place"), fills=("chosen",))
def manager_with_more_rows_than_the_default(q):
    return [[chair.state for chair in place.chairs(manager="everything").all()] for place in q(Place)]


@follow("manager_with_more_rows_than_the_default")
def manager_with_more_rows_followed(q):
    return [[chair.state for chair in place.chosen] for place in q(Place)]


# A foreign key to another field than the primary key, and to a proxy.


@loop(figure('has_desks=Exists(Desk.objects.filter(company=OuterRef("code")))'))
def key_that_is_not_the_primary_one(q):
    return [company.desks.exists() for company in q(Company)]


@follow("key_that_is_not_the_primary_one")
def key_that_is_not_the_primary_one_followed(q):
    return [company.has_desks for company in q(Company)]


@loop(join("company", "Desk"))
def row_by_such_a_key(q):
    return [desk.company.name for desk in q(Desk)]


@loop(("prefetch_related", 'yard.Firm: prefetch_related("branches")'))
def relation_of_a_proxy(q):
    return [[branch.name for branch in firm.branches.all()] for firm in q(Firm)]


@loop(figure('slots_count=Count("slots")', "Place"))
def key_of_two_columns(q):
    return [place.slots.count() for place in q(Place)]


@follow("key_of_two_columns")
def key_of_two_columns_followed(q):
    return [place.slots_count for place in q(Place)]


@loop(fetch("guests", "Slot"))
def relation_by_two_columns(q):
    return [[guest.number for guest in slot.guests.all()] for slot in q(Slot)]


@loop(("in_bulk", "yard.Opinion: filter(place__in=...)"))
def rows_of_keys_alone(q):
    return [[one.name for one in Opinion.objects.filter(place_id=key)] for key in range(1, 8)]


@follow("rows_of_keys_alone")
def rows_of_keys_alone_followed(q):
    found = list(Opinion.objects.filter(place__in=range(1, 8)))
    return [[one.name for one in found if one.place_id == key] for key in range(1, 8)]


@loop(fetch("worker_set"))
def different_values(q):
    return [set(company.worker_set.values_list("boss", flat=True).distinct()) for company in q(Company)]


@follow("different_values")
def different_values_followed(q):
    return [{worker.boss_id for worker in company.worker_set.all()} for company in q(Company)]


# What is prefetched already, but not far enough.


@loop(fetch("assignment_set__worker", "Project"))
def row_behind_prefetched_ones(q):
    projects = q(Project).prefetch_related("assignment_set")
    return [[one.worker.name for one in project.assignment_set.all()] for project in projects]


@loop(fetch("workers__company", "Project"))
def row_behind_prefetched_ones_of_many_to_many(q):
    projects = q(Project).prefetch_related("workers")
    return [[w.company and w.company.name for w in project.workers.all()] for project in projects]


# A relation of a model to itself.


@loop(join("boss"))
def row_of_the_same_model(q):
    return [worker.boss.name for worker in q(Worker) if worker.boss]


class ReportSerializer(serializers.ModelSerializer):
    company = serializers.StringRelatedField()
    reports = serializers.SerializerMethodField()

    class Meta:
        model = Worker
        fields = ("name", "company", "reports")

    def get_reports(self, worker):
        return getattr(worker, "reports_count", None) or worker.reports.count()


class CountedSerializer(ReportSerializer):
    def get_reports(self, worker):
        return worker.reports_count


@loop(figure('reports_count=Count("reports", distinct=True)', "Worker"), join("company"))
def method_field_of_a_serializer(q):
    return ReportSerializer(q(Worker), many=True).data


@follow("method_field_of_a_serializer")
def method_field_of_a_serializer_followed(q):
    return CountedSerializer(q(Worker), many=True).data


# Children of a model, rows between two models, generic relations.


@loop(join("restaurant", "Place"))
def child_of_each(q):
    return [place.restaurant.seats for place in q(Place)]


@loop(join("licence", "Restaurant"))
def relation_of_the_parent(q):
    return [restaurant.licence.number for restaurant in q(Restaurant)]


@loop(figure('has_opinions=Exists(Opinion.objects.filter(place=OuterRef("pk")))', "Restaurant"))
def whether_the_parent_has_some(q):
    return [restaurant.opinions.exists() for restaurant in q(Restaurant)]


@follow("whether_the_parent_has_some")
def whether_the_parent_has_some_followed(q):
    return [restaurant.has_opinions for restaurant in q(Restaurant)]


@loop(fetch("assignment_set", "Project"), fetch("assignment_set__worker", "Project"))
def rows_between(q):
    return [[(one.worker.name, one.hours) for one in project.assignment_set.all()] for project in q(Project)]


@loop(
    chosen('Assignment.objects.filter(hours__gt=...).select_related("worker")', "assignment_set", "Project"),
    fills=("2", "chosen"),
)
def rows_chosen_by_what_is_between(q):
    return [[worker.name for worker in one.workers.filter(assignment__hours__gt=2)] for one in q(Project)]


@follow("rows_chosen_by_what_is_between")
def rows_chosen_by_what_is_between_followed(q):
    return [[assignment.worker.name for assignment in project.chosen] for project in q(Project)]


@loop(("in_bulk", "yard.Restaurant: in_bulk(...)"))
def child_by_its_key(q):
    return [Restaurant.objects.get(pk=licence.place_id).seats for licence in q(Licence)]


@follow("child_by_its_key")
def child_by_its_key_followed(q):
    found = Restaurant.objects.in_bulk([licence.place_id for licence in q(Licence)])
    return [found[licence.place_id].seats for licence in q(Licence)]


@loop(fetch("workers", "Project"))
def attribute_of_a_prefetch_that_is_not_read(q):
    projects = q(Project).prefetch_related(Prefetch("workers", to_attr="staff"))
    return [[worker.name for worker in project.workers.all()] for project in projects]


@loop(
    figure('has_workers=Exists(Worker.people.filter(projects=OuterRef("pk"), id=...))', "Project"),
    fills=("3",),
)
def whether_one_is_among_them(q):
    return [project.workers.contains(Worker(pk=3)) for project in q(Project)]


@follow("whether_one_is_among_them")
def whether_one_is_among_them_followed(q):
    return [project.has_workers for project in q(Project)]


@loop(figure('labels_count=Count("labels", distinct=True)', "Box"))
def whether_there_is_a_label(q):
    return [box.labels.exists() for box in q(Box)]


@follow("whether_there_is_a_label")
def whether_there_is_a_label_followed(q):
    return [box.labels_count > 0 for box in q(Box)]


@loop(chosen("Label.objects.filter(name=...)", "labels", "Crate"), fills=('"red"', "chosen"))
def some_labels(q):
    return [[label.name for label in crate.labels.filter(name="red")] for crate in q(Crate)]


follow("some_labels")(names_of("chosen", Crate))


@loop(chosen('Label.objects.order_by("-name")', "labels", "Crate"), fills=("chosen",))
def last_label(q):
    return [crate.labels.order_by("-name").first().name for crate in q(Crate)]


@follow("last_label")
def last_label_followed(q):
    return [crate.chosen[0].name for crate in q(Crate)]


# Properties, templates, the admin, async code.


class Known(Worker):
    class Meta:
        proxy = True
        app_label = "yard"

    @cached_property
    def company_name(self):
        return self.company.name if self.company else ""


@loop(join("company", "Known"))
def cached_property_of_a_proxy(q):
    return [worker.company_name for worker in q(Known)]


@loop(fetch("worker_set"))
def first_by_index_in_a_template(q):
    return render("{% for one in all %}{{ one.worker_set.all.0.name }}{% endfor %}", all=q(Company))


class WorkerAdmin(admin.ModelAdmin):
    list_display = ("name", "firm")

    def firm(self, worker):
        return worker.company.name if worker.company else ""

    def get_queryset(self, request):
        return request.q(Worker)


@loop(join("company"))
def column_of_the_admin(q):
    request = RequestFactory().get("/")
    request.q, request.user = q, User(is_superuser=True, is_active=True, is_staff=True)
    changes = WorkerAdmin(Worker, admin.site).get_changelist_instance(request)
    changes.formset = None
    return [list(line) for line in results(changes)]


@loop(fetch("worker_set"))
def sets_in_an_async_loop(q):
    async def read():
        return [[worker.name async for worker in one.worker_set.all()] async for one in q(Company)]

    return async_to_sync(read)()


@loop(join("owner", "Ticket"))
def row_of_an_installed_app(q):
    return [str(ticket.owner) for ticket in q(Ticket)]


@loop(figure('worker_set_avg=Avg("worker__score")'))
def mean_of_each(q):
    return [company.worker_set.aggregate(mean=Avg("score"))["mean"] for company in q(Company)]


@follow("mean_of_each")
def mean_of_each_followed(q):
    return [company.worker_set_avg for company in q(Company)]


@loop(chosen("Worker.people.annotate(...)", "reports", "Worker"), fills=('number=Count("reports")', "chosen"))
def rows_with_a_figure(q):
    return [[one.number for one in worker.reports.annotate(number=Count("reports"))] for worker in q(Worker)]


@follow("rows_with_a_figure")
def rows_with_a_figure_followed(q):
    return [[one.number for one in worker.chosen] for worker in q(Worker)]


# Writes.


@loop(("in_bulk", "yard.Company.code"), ("bulk_update", "yard.Company"))
def update_or_create_known_rows(q):
    for number in range(7):
        Company.objects.update_or_create(code=f"code {number}", defaults={"name": "changed"})
    return list(Company.objects.order_by("code").values_list("name", flat=True))


@follow("update_or_create_known_rows")
def known_rows_at_once(q):
    known = list(Company.objects.filter(code__in=[f"code {number}" for number in range(7)]))
    for company in known:
        company.name = "changed"
    Company.objects.bulk_update(known, ["name"])
    return list(Company.objects.order_by("code").values_list("name", flat=True))


@loop(("bulk_delete", "Project.workers.through.objects.filter(...).delete()"))
def set_to_none(q):
    for project in q(Project):
        project.workers.set([], clear=True)
    return Project.workers.through.objects.count()


@follow("set_to_none")
def set_to_none_at_once(q):
    Project.workers.through.objects.filter(project__in=q(Project)).delete()
    return Project.workers.through.objects.count()


@loop(("bulk_update", "Worker.people.filter(pk__in=...).update(...)"))
def row_added_to_a_set(q):
    company = Company.objects.first()
    for worker in q(Worker):
        company.worker_set.add(worker)
    return company.worker_set.count()


@follow("row_added_to_a_set")
def rows_added_to_a_set_at_once(q):
    company = Company.objects.first()
    q(Worker).update(company=company)
    return company.worker_set.count()


# What is behind a generic foreign key, and what leads there.


@loop(
    *(
        ("prefetch_related", f'shelf.Note: prefetch_related("{name}")')
        for name in ("target", "target__review_set")
    )
)
def behind_a_generic_foreign_key(q):
    notes = q(Note).filter(text="of a group")
    return [[str(review.pk) for review in note.target.review_set.all()] for note in notes]


@loop(fetch("remarks"))
def count_by_keys_of_another_type(q):
    return [company.remarks.count() for company in q(Company)]


@follow("count_by_keys_of_another_type")
def count_by_keys_of_another_type_followed(q):
    return [len(company.remarks.all()) for company in q(Company)]


@loop(join("boss"))
def behind_a_prefetch_with_a_condition(q):
    active = Prefetch("worker_set", q(Worker).filter(is_active=True), to_attr="active")
    return [[one.boss.name for one in company.active] for company in q(Company).prefetch_related(active)]


@loop(("prefetch_related", 'shelf.Book: prefetch_related("tags")'))
def serializer_of_django(q):
    return core_serializers.serialize("json", q(Book))


# Found by 59 further loops.


@loop(("prefetch_related", 'yard.Chef: prefetch_related("partners")'))
def relation_of_the_parent_to_its_own_model(q):
    return [sorted(one.name for one in chef.partners.all()) for chef in q(Chef)]


@loop(fetch("assignment_set__worker", "Project"))
def values_behind_a_relation(q):
    return [sorted(row.assignment_set.values_list("worker__name", "hours")) for row in q(Project)]


@follow("values_behind_a_relation")
def values_behind_a_relation_followed(q):
    return [sorted((one.worker.name, one.hours) for one in row.assignment_set.all()) for row in q(Project)]
