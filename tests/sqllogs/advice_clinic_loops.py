"""Loops that were written before the rules were run on them, as those of a clinic's site; see `advice_loops`.

`UNSURE` is advice that must be marked as a guess, or none at all.
"""

import csv
import io
import itertools

from asgiref.sync import async_to_sync, sync_to_async
from django.contrib import admin
from django.contrib.admin.templatetags.admin_list import results
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.contrib.sitemaps import Sitemap
from django.core import serializers as core_serializers
from django.core.paginator import Paginator
from django.db import connection
from django.db.models import Avg, Count, Exists, F, Max, Min, OuterRef, Prefetch, Q, Sum
from django.forms.models import model_to_dict
from django.shortcuts import get_list_or_404, get_object_or_404
from django.test import RequestFactory
from django.views.generic import ListView
from rest_framework import serializers
from rest_framework.generics import ListAPIView
from rest_framework.pagination import PageNumberPagination
from rest_framework.test import APIRequestFactory

from tests.sqllogs.advice_clinic import (
    City,
    Department,
    Doctor,
    Dose,
    Drug,
    File,
    Human,
    Invoice,
    Line,
    Patient,
    Staff,
    Vip,
    Visit,
    Ward,
)
from tests.sqllogs.advice_loops import UNSURE, follow, loop, render

CODES = ("0a", "1a", "2a", "9a", "8a", "7a")


def join(name, on):
    return "select_related", f'clinic.{on}: select_related("{name}")'


def fetch(name, on):
    return "prefetch_related", f'clinic.{on}: prefetch_related("{name}")'


def figure(code, on):
    return "annotate", f"clinic.{on}: annotate({code})"


def chosen(rows, name, on):
    code = f'prefetch_related(Prefetch("{name}", queryset={rows}, to_attr="..."))'
    return "prefetch_related", f"clinic.{on}: {code}"


def behind(name, on, rows):
    """Return the advice to join what is behind the rows of a relation."""
    return "prefetch_related", f'clinic.{on}: prefetch_related(Prefetch("{name}", queryset={rows}))'


def changelist(q, model, **attributes):
    """Return the lines of a list of the admin."""
    options = {**attributes, "get_queryset": lambda self, request: request.q(model)}
    site = type("Site", (admin.ModelAdmin,), {"show_full_result_count": False, **options})
    request = RequestFactory().get("/")
    request.q, request.user = q, User(is_superuser=True, is_active=True, is_staff=True)
    changes = site(model, admin.site).get_changelist_instance(request)
    changes.formset = None
    return [list(line) for line in results(changes)]


def serializer(of, names, **attributes):
    meta = type("Meta", (), {"model": of, "fields": names})
    return type("Serializer", (serializers.ModelSerializer,), {**attributes, "Meta": meta})


def grouped(owners, found, value, key="doctor_id"):
    """Return the values of rows that were read at once, for each owner."""
    found = list(found)
    return [[value(one) for one in found if getattr(one, key) == owner.pk] for owner in owners]


def by_key(q, model, name):
    """Return an attribute of what each visit refers to, read by in_bulk()."""
    keys = [visit.patient_id for visit in q(Visit)]
    known = model.objects.in_bulk(keys)
    return [getattr(known[key], name) for key in keys]


# admin
@loop(join("doctor", "Patient"), join("doctor__department", "Patient"))
def admin_fk_of_fk(q):
    return changelist(
        q, Patient, list_display=("name", "unit"), unit=lambda self, one: one.doctor.department.name
    )


@loop(figure('visits_count=Count("visits", distinct=True)', "Patient"))
def admin_count(q):
    return changelist(q, Patient, list_display=("name", "times"), times=lambda self, one: one.visits.count())


follow("admin_count")(
    lambda q: changelist(q, Patient, list_display=("name", "times"), times=lambda self, one: one.visits_count)
)


@loop(join("patient", "Visit"), fetch("drugs", "Visit"))
def admin_m2m_join(q):
    return changelist(
        q,
        Visit,
        list_display=("day", "all"),
        all=lambda self, one: ", ".join(d.name for d in one.drugs.all()),
    )


@loop(
    figure('visits_count=Count("visits", filter=Q(visits__status=...), distinct=True)', "Patient"),
    fills=("'open'",),
)
def admin_model_property(q):
    return changelist(q, Patient, list_display=("name", "open_visits"))


follow("admin_model_property")(
    lambda q: changelist(
        q, Patient, list_display=("name", "open_visits"), open_visits=lambda self, one: one.visits_count
    )
)


@loop(join("patient", "Visit"), join("invoice", "Visit"))
def admin_reverse_one_to_one(q):
    return changelist(q, Visit, list_display=("day", "total"), total=lambda self, one: one.invoice.total)


@loop(fetch("visits", "Patient"))
def drf_nested(q):
    visits = serializer(Visit, ("day", "fee"))(many=True)
    return serializer(Patient, ("name", "visits"), visits=visits)(q(Patient), many=True).data


@loop(fetch("patients", "Doctor"), fetch("patients__visits", "Doctor"))
def drf_nested_two(q):
    visits = serializer(Visit, ("day", "fee"))(many=True)
    patients = serializer(Patient, ("name", "visits"), visits=visits)(many=True)
    return serializer(Doctor, ("name", "patients"), patients=patients)(q(Doctor), many=True).data


@loop(join("doctor", "Patient"), join("doctor__user", "Patient"))
def drf_source(q):
    who = serializers.CharField(source="doctor.user.username")
    return serializer(Patient, ("name", "who"), who=who)(q(Patient), many=True).data


@loop(fetch("nurses", "Patient"))
def drf_pks(q):
    return serializer(Patient, ("name", "nurses"))(q(Patient), many=True).data


@loop(chosen('Visit.objects.order_by("-day")[:1]', "visits", "Patient"), fills=("chosen",))
def drf_to_representation(q):
    class One(serializers.ModelSerializer):
        class Meta:
            model = Patient
            fields = ("name",)

        def to_representation(self, instance):
            return {**super().to_representation(instance), "last": instance.visits.last().fee}

    return One(q(Patient), many=True).data


follow("drf_to_representation")(lambda q: [{"name": p.name, "last": p.chosen[0].fee} for p in q(Patient)])


@loop(
    figure('has_visits=Exists(Visit.objects.filter(patient=OuterRef("pk"), status=...))', "Patient"),
    fills=("'open'",),
)
def drf_method_exists(q):
    class One(serializers.ModelSerializer):
        has = serializers.SerializerMethodField()

        class Meta:
            model = Patient
            fields = ("name", "has")

        def get_has(self, one):
            return one.visits.filter(status="open").exists()

    return One(q(Patient), many=True).data


follow("drf_method_exists")(
    lambda q: (
        serializer(Patient, ("name", "has"), has=serializers.BooleanField(source="has_visits"))(
            q(Patient), many=True
        ).data
    )
)


@loop(fetch("drugs", "Visit"))
def drf_slug_many(q):
    drugs = serializers.SlugRelatedField(many=True, read_only=True, slug_field="name")
    return serializer(Visit, ("day", "drugs"), drugs=drugs)(q(Visit), many=True).data


@loop(fetch("visits", "Patient"))
def drf_string_reverse(q):
    visits = serializers.StringRelatedField(many=True)
    return serializer(Patient, ("name", "visits"), visits=visits)(q(Patient), many=True).data


@loop(
    chosen('Visit.objects.filter(status=...).order_by("-day")[:1]', "visits", "Patient"),
    fills=("'paid'", "chosen"),
)
def drf_method_first_of_filter(q):
    class One(serializers.ModelSerializer):
        first = serializers.SerializerMethodField()

        class Meta:
            model = Patient
            fields = ("name", "first")

        def get_first(self, one):
            visit = one.visits.filter(status="paid").order_by("-day").first()
            return visit and visit.fee

    return One(q(Patient), many=True).data


follow("drf_method_first_of_filter")(
    lambda q: [{"name": p.name, "first": p.chosen[0].fee} for p in q(Patient)]
)


@loop(join("patient", "Visit"), join("patient__doctor", "Visit"), join("patient__doctor__user", "Visit"))
def template_four_levels(q):
    return render("{% for v in all %}{{ v.patient.doctor.user.username }},{% endfor %}", all=q(Visit))


@loop(join("doctor", "Patient"))
def template_regroup(q):
    return render(
        "{% regroup all by doctor.name as d %}{% for g in d %}{{ g.grouper }}{{ g.list|length }}{% endfor %}",
        all=q(Patient),
    )


@loop(join("invoice", "Visit"))
def template_one_to_one(q):
    return render("{% for v in all %}{{ v.invoice.total }},{% endfor %}", all=q(Visit))


@loop(fetch("visits", "Patient"))
def template_if_all(q):
    return render("{% for p in all %}{% if p.visits.all %}x{% endif %}{% endfor %}", all=q(Patient))


@loop(fetch("patients", "Doctor"), fetch("patients__visits", "Doctor"))
def template_nested(q):
    return render(
        "{% for d in all %}{% for p in d.patients.all %}{{ p.name }}"
        "{% for v in p.visits.all %}{{ v.fee }}{% endfor %}{% endfor %}{% endfor %}",
        all=q(Doctor),
    )


@loop(figure('patients_count=Count("patients", distinct=True)', "Doctor"))
def template_with_count(q):
    return render(
        "{% for d in all %}{% with n=d.patients.count %}{{ n }} {{ n|pluralize }}{% endwith %}{% endfor %}",
        all=q(Doctor),
    )


follow("template_with_count")(
    lambda q: render(
        "{% for d in all %}{% with n=d.patients_count %}{{ n }} {{ n|pluralize }}{% endwith %}{% endfor %}",
        all=q(Doctor),
    )
)


@loop(chosen('Visit.objects.order_by("-day")[:1]', "visits", "Patient"), fills=("chosen",))
def template_last(q):
    return render("{% for p in all %}{{ p.visits.last.fee }}{% endfor %}", all=q(Patient))


follow("template_last")(
    lambda q: render("{% for p in all %}{{ p.chosen.0.fee }}{% endfor %}", all=q(Patient))
)


@loop(fetch("visits", "Patient"))
def template_dictsort(q):
    return render(
        "{% for p in all %}{% for v in p.visits.all|dictsort:'fee' %}{{ v.fee }}{% endfor %}{% endfor %}",
        all=q(Patient),
    )


@loop(fetch("dose_set", "Visit"), fetch("dose_set__drug", "Visit"))
def through_rows(q):
    return [sorted((d.drug.name, d.grams) for d in v.dose_set.all()) for v in q(Visit)]


@loop(chosen("Drug.objects.filter(name__startswith=...)", "drugs", "Visit"), fills=("'drug 1'", "chosen"))
def m2m_filtered(q):
    return [[d.name for d in v.drugs.filter(name__startswith="drug 1")] for v in q(Visit)]


follow("m2m_filtered")(lambda q: [[v.name for v in p.chosen] for p in q(Visit)])


@loop(chosen("Dose.objects.select_related(...)", "dose_set", "Visit"), fills=("'drug'", "chosen"))
def through_select_related_in_loop(q):
    return [sorted((d.drug.name, d.grams) for d in v.dose_set.select_related("drug")) for v in q(Visit)]


follow("through_select_related_in_loop")(
    lambda q: [sorted((d.drug.name, d.grams) for d in v.chosen) for v in q(Visit)]
)


@loop(figure('dose_set_sum=Sum("dose__grams")', "Visit"))
def through_sum(q):
    return [v.dose_set.aggregate(Sum("grams"))["grams__sum"] for v in q(Visit)]


follow("through_sum")(lambda q: [p.dose_set_sum for p in q(Visit)])


@loop(fetch("children", "Department"))
def tree_children(q):
    return [[c.name for c in d.children.all()] for d in q(Department)]


@loop(figure('children_count=Count("children", distinct=True)', "Department"))
def tree_count_children(q):
    return sorted(d.children.count() for d in q(Department))


follow("tree_count_children")(lambda q: sorted(p.children_count for p in q(Department)))


@loop(fetch("children", "Department"), fetch("children", "Department"))
def tree_grandchildren(q):
    found = []
    for unit in q(Department).filter(name__startswith="department"):
        found.extend(len(child.children.all()) for child in unit.children.all())
    return found


@follow("tree_grandchildren")
def tree_grandchildren_followed(q):
    units = q(Department).filter(name__startswith="department").prefetch_related("children__children")
    return [len(child.children.all()) for unit in units for child in unit.children.all()]


@loop(join("parent", "Department"))
def tree_parent(q):
    return [d.parent.name for d in q(Department) if d.parent]


@loop(join("parent", "Department"))
def tree_grandparent(q):
    return [d.parent.parent.name for d in q(Department) if d.parent and d.parent.parent]


follow("tree_grandparent")(
    lambda q: [
        d.parent.parent.name
        for d in q(Department).select_related("parent__parent")
        if d.parent and d.parent.parent
    ]
)


@loop(("select_related", 'auth.User: select_related("clinic_doctor")'))
def one_to_one_of_user(q):
    return [u.clinic_doctor.name for u in q(User).filter(username__startswith="clinic")]


@loop(join("user", "Doctor"))
def one_to_one_forward_user(q):
    return [d.user.get_username() for d in q(Doctor)]


@loop(join("deputy", "Doctor"))
def one_to_one_self(q):
    return [d.deputy.name for d in q(Doctor)]


@loop(join("deputy_of", "Doctor"))
def one_to_one_self_back(q):
    return [d.deputy_of.name for d in q(Doctor)]


@loop(join("invoice", "Visit"))
def one_to_one_hasattr(q):
    return [hasattr(v, "invoice") for v in q(Visit)]


@loop(join("invoice", "Visit"), fetch("invoice__lines", "Visit"))
def one_to_one_then_many(q):
    return [[line.amount for line in v.invoice.lines.all()] for v in q(Visit)]


@loop(fetch("files", "Patient"))
def generic_all(q):
    return [[f.path for f in v.files.all()] for v in q(Patient)]


@loop(figure('files_count=Count("files", distinct=True)', "Patient"))
def generic_count(q):
    return [v.files.count() for v in q(Patient)]


follow("generic_count")(lambda q: [p.files_count for p in q(Patient)])


@loop(
    figure('files_count=Count("files", filter=Q(files__path=...), distinct=True)', "Patient"),
    fills=("'scan'",),
)
def generic_exists_filter(q):
    return [v.files.filter(path="scan").exists() for v in q(Patient)]


follow("generic_exists_filter")(lambda q: [p.files_count > 0 for p in q(Patient)])


@loop(fetch("target", "File"), fetch("target", "File"))
def generic_target(q):
    return [str(f.target.pk) for f in q(File).filter(path__in=["photo", "list"])]


@loop(fetch("target", "File"))
def generic_str(q):
    return [str(f) for f in q(File).filter(path="photo")]


@loop(join("content_type", "File"))
def generic_content_type(q):
    return [f.content_type.model for f in q(File)]


@loop(fetch("target", "File"), fetch("target__clinic_doctor", "File"))
def generic_behind(q):
    return [f.target.clinic_doctor.name for f in q(File).filter(path="photo")]


@loop(
    fetch("target", "File"),
    fetch("target__clinic_doctor", "File"),
    (
        "prefetch_related",
        (
            "clinic.File: prefetch_related("
            'GenericPrefetch("target", [User.objects.select_related("clinic_doctor__department")]))'
        ),
    ),
)
def generic_behind_that(q):
    return [f.target.clinic_doctor.department.name for f in q(File).filter(path="photo")]


@loop(join("doctor", "Vip"))
def proxy_fk(q):
    return [v.doctor.name for v in q(Vip)]


@loop(fetch("visits", "Vip"))
def proxy_related(q):
    return [[x.fee for x in v.visits.all()] for v in q(Vip)]


@loop(join("city", "Staff"))
def mti_parent_fk(q):
    return [s.city.name for s in q(Staff)]


@loop(join("staff", "Human"))
def mti_child(q):
    return [h.staff.badge for h in q(Human)]


@loop(fetch("wards", "Staff"))
def mti_child_reverse(q):
    return [[w.name for w in s.wards.all()] for s in q(Staff)]


@loop(join("head", "Ward"), join("head__city", "Ward"))
def mti_fk_to_child_then_parent_fk(q):
    return [w.head.city.name for w in q(Ward)]


@loop(fetch("nurses", "Patient"))
def mti_m2m_to_child(q):
    return [[n.name for n in p.nurses.all()] for p in q(Patient)]


@loop(chosen("Patient.objects.filter(is_archived=...)", "patients", "Doctor"), fills=("False", "chosen"))
def manager_filter_by_instance(q):
    return [[p.name for p in Patient.unarchived.filter(doctor=d)] for d in q(Doctor)]


follow("manager_filter_by_instance")(lambda q: [[v.name for v in p.chosen] for p in q(Doctor)])


@loop(chosen("Patient.objects.filter(is_archived=...)", "patients", "Doctor"), fills=("False", "chosen"))
def queryset_method_on_related(q):
    return [[p.name for p in d.patients.alive()] for d in q(Doctor)]


follow("queryset_method_on_related")(lambda q: [[v.name for v in p.chosen] for p in q(Doctor)])


@loop(
    figure('patients_count=Count("patients", filter=Q(patients__is_archived=...), distinct=True)', "Doctor"),
    fills=("False",),
)
def queryset_method_count(q):
    return [d.patients.alive().count() for d in q(Doctor)]


follow("queryset_method_count")(lambda q: [p.patients_count for p in q(Doctor)])


@loop(figure('visits_max=Max("visits__day")', "Patient"))
def agg_max(q):
    return [p.visits.aggregate(Max("day"))["day__max"] for p in q(Patient)]


follow("agg_max")(lambda q: [p.visits_max for p in q(Patient)])


@loop(figure('visits_sum=Sum("visits__fee", filter=Q(visits__status=...))', "Patient"), fills=("'open'",))
def agg_sum_filter(q):
    return [p.visits.filter(status="open").aggregate(s=Sum("fee"))["s"] for p in q(Patient)]


follow("agg_sum_filter")(lambda q: [p.visits_sum for p in q(Patient)])


@loop(figure('visits_sum=Sum("visits__invoice__total")', "Patient"))
def agg_joined(q):
    return [p.visits.aggregate(s=Sum("invoice__total"))["s"] for p in q(Patient)]


follow("agg_joined")(lambda q: [p.visits_sum for p in q(Patient)])


@loop(figure('visits_avg=Avg("visits__fee")', "Patient"))
def agg_of_model_filter(q):
    return [Visit.objects.filter(patient=p).aggregate(s=Avg("fee"))["s"] for p in q(Patient)]


follow("agg_of_model_filter")(lambda q: [p.visits_avg for p in q(Patient)])


@loop(figure('visits_count=Count("visits", distinct=True)', "Patient"))
def count_model_filter(q):
    return [Visit.objects.filter(patient=p).count() for p in q(Patient)]


follow("count_model_filter")(lambda q: [p.visits_count for p in q(Patient)])


@loop(
    figure('visits_count=Count("visits", filter=Q(visits__status=...), distinct=True)', "Patient"),
    fills=("'open'",),
)
def count_model_filter_id(q):
    return [Visit.objects.filter(patient_id=p.id, status="open").count() for p in q(Patient)]


follow("count_model_filter_id")(lambda q: [p.visits_count for p in q(Patient)])


@loop(UNSURE)
def count_two_levels_away(q):
    return [Visit.objects.filter(patient__doctor=d).count() for d in q(Doctor)]


@loop(UNSURE)
def list_two_levels_away(q):
    return [[v.fee for v in Visit.objects.filter(patient__doctor=d)] for d in q(Doctor)]


@loop(
    join("doctor", "Patient"),
    figure('doctor_patients_count=Count("doctor__patients", distinct=True)', "Patient"),
)
def count_of_nested_attr(q):
    return [p.doctor.patients.count() for p in q(Patient)]


follow("count_of_nested_attr")(lambda q: [p.doctor_patients_count for p in q(Patient)])


@loop(figure('patients_count=Count("patients__is_archived", distinct=True)', "Doctor"))
def count_distinct_values(q):
    return [d.patients.values("is_archived").distinct().count() for d in q(Doctor)]


follow("count_distinct_values")(lambda q: [p.patients_count for p in q(Doctor)])


@loop(("in_bulk", "clinic.Visit: filter(doctor__in=...)"))
def exists_by_hidden_relation(q):
    return [Visit.objects.filter(doctor=d).exists() for d in q(Doctor)]


@follow("exists_by_hidden_relation")
def exists_by_hidden_relation_followed(q):
    known = set(Visit.objects.filter(doctor__in=q(Doctor)).values_list("doctor", flat=True))
    return [doctor.pk in known for doctor in q(Doctor)]


@loop(
    figure('visits_count=Count("visits", filter=Q(...), distinct=True)', "Patient"),
    fills=("Q(visits__status='open') | Q(visits__fee__gt=3)",),
)
def count_related_with_q(q):
    return [p.visits.filter(Q(status="open") | Q(fee__gt=3)).count() for p in q(Patient)]


follow("count_related_with_q")(lambda q: [p.visits_count for p in q(Patient)])


@loop(chosen('Visit.objects.order_by("day")[:1]', "visits", "Patient"), fills=("chosen",))
def first_default(q):
    return [p.visits.first().fee for p in q(Patient)]


follow("first_default")(lambda q: [p.chosen[0].fee for p in q(Patient)])


@loop(chosen('Visit.objects.order_by("-day")[:1]', "visits", "Patient"), fills=("chosen",))
def last_default(q):
    return [p.visits.last().fee for p in q(Patient)]


follow("last_default")(lambda q: [p.chosen[0].fee for p in q(Patient)])


@loop(chosen('Visit.objects.order_by("-day")[:1]', "visits", "Patient"), fills=("chosen",))
def latest_default(q):
    return [p.visits.latest().fee for p in q(Patient)]


follow("latest_default")(lambda q: [p.chosen[0].fee for p in q(Patient)])


@loop(chosen('Visit.objects.order_by("fee")[:1]', "visits", "Patient"), fills=("chosen",))
def earliest_field(q):
    return [p.visits.earliest("fee").fee for p in q(Patient)]


follow("earliest_field")(lambda q: [p.chosen[0].fee for p in q(Patient)])


@loop(chosen('Visit.objects.order_by("-day")[:1]', "visits", "Patient"), fills=("chosen",))
def first_of_filter_by_instance(q):
    return [Visit.objects.filter(patient=p).order_by("-day").first().fee for p in q(Patient)]


follow("first_of_filter_by_instance")(lambda q: [p.chosen[0].fee for p in q(Patient)])


@loop(chosen('Visit.objects.order_by("-day")[:...]', "visits", "Patient"), fills=("3", "chosen"))
def slice_three(q):
    return [[v.fee for v in p.visits.order_by("-day")[:3]] for p in q(Patient)]


follow("slice_three")(lambda q: [[v.fee for v in p.chosen] for p in q(Patient)])


@loop(chosen('Drug.objects.order_by("name")[:1]', "drugs", "Visit"), fills=("chosen",))
def first_through_m2m(q):
    return [v.drugs.order_by("name").first().name for v in q(Visit)]


follow("first_through_m2m")(lambda q: [p.chosen[0].name for p in q(Visit)])


@loop(
    figure('visits_count=Count("visits", filter=Q(visits__status=...), distinct=True)', "Patient"),
    fills=("'open'",),
)
def property_count(q):
    return [p.open_visits for p in q(Patient)]


follow("property_count")(lambda q: [p.visits_count for p in q(Patient)])


@loop(chosen('Visit.objects.order_by("-day")[:...]', "visits", "Patient"), fills=("1", "chosen"))
def cached_property_newest(q):
    return [p.newest_visit.fee for p in q(Patient)]


follow("cached_property_newest")(lambda q: [p.chosen[0].fee for p in q(Patient)])


@loop(fetch("visits", "Patient"))
def values_list_index(q):
    return [p.visits.values_list("fee", flat=True)[0] for p in q(Patient)]


follow("values_list_index")(lambda q: [p.visits.all()[0].fee for p in q(Patient)])


@loop(chosen('Visit.objects.order_by("day")[:1]', "visits", "Patient"), fills=("chosen",))
def values_first(q):
    return [p.visits.values("fee").first()["fee"] for p in q(Patient)]


follow("values_first")(lambda q: [p.chosen[0].fee for p in q(Patient)])


@loop(("in_bulk", "clinic.Patient: in_bulk(...)"))
def values_list_get(q):
    return [Patient.objects.values_list("name", flat=True).get(pk=v.patient_id) for v in q(Visit)]


follow("values_list_get")(lambda q: by_key(q, Patient, "name"))


@loop(fetch("drugs", "Visit"))
def in_all(q):
    drug = Drug(pk=1)
    return [drug in v.drugs.all() for v in q(Visit)]


@loop(fetch("drugs", "Visit"))
def in_values_list(q):
    return [1 in v.drugs.values_list("pk", flat=True) for v in q(Visit)]


follow("in_values_list")(lambda q: [1 in [d.pk for d in v.drugs.all()] for v in q(Visit)])


@loop(chosen("Visit.objects.filter(status=...)", "visits", "Patient"), fills=("'open'", "chosen"))
def values_list_ordered(q):
    return [list(p.visits.filter(status="open").values_list("day", flat=True)) for p in q(Patient)]


follow("values_list_ordered")(lambda q: [[v.day for v in p.chosen] for p in q(Patient)])


@loop(UNSURE)
def dates(q):
    return [list(p.visits.dates("day", "month")) for p in q(Patient)]


@loop(UNSURE)
def groups(q):
    return [list(p.visits.order_by().values("status").annotate(n=Count("pk"))) for p in q(Patient)]


@loop(("bulk_update", "clinic.Visit"))
def update_by_pk_f(q):
    for v in q(Visit):
        Visit.objects.filter(pk=v.pk).update(fee=F("fee") + 1)
    return list(Visit.objects.values_list("fee", flat=True))


follow("update_by_pk_f")(
    lambda q: [q(Visit).update(fee=F("fee") + 1)] and list(Visit.objects.values_list("fee", flat=True))
)


@loop(("bulk_delete", "clinic.Line"))
def related_delete(q):
    for i in q(Invoice):
        i.lines.all().delete()
    return Line.objects.count()


follow("related_delete")(
    lambda q: [Line.objects.filter(invoice__in=q(Invoice)).delete()] and Line.objects.count()
)


@loop(("bulk_update", "clinic.Visit"))
def related_update(q):
    for p in q(Patient):
        p.visits.update(status="done")
    return list(Visit.objects.values_list("status", flat=True))


follow("related_update")(
    lambda q: (
        [Visit.objects.filter(patient__in=q(Patient)).update(status="done")]
        and list(Visit.objects.values_list("status", flat=True))
    )
)


@loop(("bulk_update", "clinic.Visit"))
def related_filter_update(q):
    for p in q(Patient):
        p.visits.filter(status="open").update(status="done")
    return list(Visit.objects.values_list("status", flat=True))


follow("related_filter_update")(
    lambda q: (
        [Visit.objects.filter(patient__in=q(Patient), status="open").update(status="done")]
        and list(Visit.objects.values_list("status", flat=True))
    )
)


@loop(("bulk_delete", "Patient.nurses.through.objects.filter(...).delete()"))
def m2m_remove(q):
    nurse = Staff.objects.get(pk=1)
    for p in q(Patient):
        p.nurses.remove(nurse)
    return Patient.nurses.through.objects.count()


follow("m2m_remove")(
    lambda q: (
        [Patient.nurses.through.objects.filter(patient__in=q(Patient), staff=1).delete()]
        and Patient.nurses.through.objects.count()
    )
)


@loop(("in_bulk", "clinic.Visit: in_bulk(...)"))
def refresh_fields(q):
    found = []
    for v in q(Visit):
        v.refresh_from_db(fields=["fee"])
        found.append(v.fee)
    return found


follow("refresh_fields")(lambda q: [v.fee for v in Visit.objects.in_bulk([v.pk for v in q(Visit)]).values()])


@loop(figure('visits_count=Count("visits", distinct=True)', "Patient"))
def async_count(q):
    async def go():
        return [await p.visits.acount() async for p in q(Patient)]

    return async_to_sync(go)()


follow("async_count")(lambda q: [p.visits_count for p in q(Patient)])


@loop(join("patient", "Visit"))
def async_fk(q):
    async def go():
        return [await sync_to_async(lambda v=v: v.patient.name)() async for v in q(Visit)]

    return async_to_sync(go)()


@loop(chosen('Visit.objects.order_by("-fee")[:1]', "visits", "Patient"), fills=("chosen",))
def async_first(q):
    async def go():
        return [(await p.visits.order_by("-fee").afirst()).fee async for p in q(Patient)]

    return async_to_sync(go)()


follow("async_first")(lambda q: [p.chosen[0].fee for p in q(Patient)])


@loop(
    figure('has_visits=Exists(Visit.objects.filter(patient=OuterRef("pk"), status=...))', "Patient"),
    fills=("'open'",),
)
def async_exists(q):
    async def go():
        return [await p.visits.filter(status="open").aexists() async for p in q(Patient)]

    return async_to_sync(go)()


follow("async_exists")(lambda q: [p.has_visits for p in q(Patient)])


@loop(join("patient", "Visit"))
def iterator_fk(q):
    return [v.patient.name for v in q(Visit).iterator(chunk_size=100)]


@loop(("load_field", "clinic.Visit.patient"), join("patient", "Visit"))
def only_then_fk(q):
    return [v.patient.name for v in q(Visit).only("day")]


follow("only_then_fk")(lambda q: [v.patient.name for v in q(Visit).only("day", "patient")])


@loop(("load_field", "clinic.Patient.history"))
def defer_field(q):
    return [p.history for p in q(Patient).defer("history")]


follow("defer_field")(lambda q: [p.history for p in q(Patient)])


@loop(("load_field", "clinic.Patient.history"))
def defer_joined(q):
    return [v.patient.history for v in q(Visit).select_related("patient").defer("patient__history")]


follow("defer_joined")(lambda q: [v.patient.history for v in q(Visit).select_related("patient")])


@loop(("load_field", "clinic.Patient.is_archived"))
def only_in_serializer(q):
    return serializer(Patient, ("name", "is_archived"))(q(Patient).only("name"), many=True).data


follow("only_in_serializer")(
    lambda q: serializer(Patient, ("name", "is_archived"))(q(Patient), many=True).data
)


@loop(("in_bulk", "clinic.Visit: filter(doctor__in=...)"))
def in_loop_select_related(q):
    return [
        [v.patient.name for v in Visit.objects.filter(doctor=d).select_related("patient")] for d in q(Doctor)
    ]


follow("in_loop_select_related")(
    lambda q: grouped(
        q(Doctor),
        Visit.objects.filter(doctor__in=q(Doctor)).select_related("patient"),
        lambda v: v.patient.name,
    )
)


@loop(chosen("Visit.objects.prefetch_related(...)", "visits", "Patient"), fills=("'drugs'", "chosen"))
def in_loop_prefetch(q):
    return [[[d.name for d in v.drugs.all()] for v in p.visits.prefetch_related("drugs")] for p in q(Patient)]


follow("in_loop_prefetch")(
    lambda q: [[[d.name for d in v.drugs.all()] for v in p.chosen] for p in q(Patient)]
)


@loop(join("drug", "Line"))
def to_field_fk(q):
    return [line.drug.name for line in q(Line)]


@loop(join("drug", "Line"), join("drug__maker", "Line"))
def to_field_fk_of_fk(q):
    return [line.drug.maker.name for line in q(Line)]


@loop(figure('lines_count=Count("lines", distinct=True)', "Drug"))
def to_field_count(q):
    return [d.lines.count() for d in q(Drug)]


follow("to_field_count")(lambda q: [p.lines_count for p in q(Drug)])


@loop(fetch("lines", "Drug"))
def to_field_all(q):
    return [[x.amount for x in d.lines.all()] for d in q(Drug)]


@loop(join("doctor", "Visit"))
def hidden_fk(q):
    return [v.doctor.name for v in q(Visit)]


@loop(("in_bulk", "clinic.Visit: filter(doctor__in=...)"))
def hidden_fk_reverse_list(q):
    return [[v.fee for v in Visit.objects.filter(doctor=d)] for d in q(Doctor)]


follow("hidden_fk_reverse_list")(
    lambda q: grouped(q(Doctor), Visit.objects.filter(doctor__in=q(Doctor)), lambda v: v.fee)
)


@loop(join("doctor", "Visit"))
def behind_to_attr(q):
    some = Prefetch("visits", q(Visit).filter(status="open"), to_attr="open")
    return [[v.doctor.name for v in p.open] for p in q(Patient).prefetch_related(some)]


@loop(chosen("Visit.objects.filter(status=...)", "visits", "Patient"), fills=("'open'", "chosen"))
def filter_on_prefetched(q):
    return [[v.fee for v in p.visits.filter(status="open")] for p in q(Patient).prefetch_related("visits")]


follow("filter_on_prefetched")(lambda q: [[v.fee for v in p.chosen] for p in q(Patient)])


@loop(chosen('Visit.objects.order_by("-fee")', "visits", "Patient"), fills=("chosen",))
def order_on_prefetched(q):
    return [[v.fee for v in p.visits.order_by("-fee")] for p in q(Patient).prefetch_related("visits")]


follow("order_on_prefetched")(lambda q: [[v.fee for v in p.chosen] for p in q(Patient)])


@loop(figure('visits_count=Count("visits", distinct=True)', "Patient"))
def count_behind_prefetch(q):
    return [[p.visits.count() for p in d.patients.all()] for d in q(Doctor).prefetch_related("patients")]


follow("count_behind_prefetch")(
    lambda q: [
        [p.visits_count for p in d.patients.all()]
        for d in q(Doctor).prefetch_related(Prefetch("patients", q(Patient)))
    ]
)


@loop(UNSURE)
def fk_behind_both(q):
    return [v.patient.doctor.department.name for v in q(Visit).select_related("patient__doctor", "doctor")]


@loop(join("patient__doctor__department", "Visit"))
def fk_behind_select(q):
    return [v.patient.doctor.department.name for v in q(Visit).select_related("patient__doctor")]


@loop(("in_bulk", "clinic.Drug: filter(code__in=...)"))
def get_404(q):
    return [get_object_or_404(Drug, code=f"{n}a").name for n in range(7)]


follow("get_404")(
    lambda q: [one.name for one in Drug.objects.filter(code__in=[f"{n}a" for n in range(7)]).order_by("code")]
)


@loop(fetch("visits", "Patient"))
def list_404(q):
    return [len(get_list_or_404(Visit, patient=p)) for p in q(Patient)]


follow("list_404")(lambda q: [len(p.visits.all()) for p in q(Patient)])


@loop(UNSURE)
def raw_cursor(q):
    found = []
    for p in q(Patient):
        with connection.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM clinic_visit WHERE patient_id = %s", [p.pk])
            found.append(cursor.fetchone()[0])
    return found


@loop(UNSURE)
def raw_model(q):
    return [
        Visit.objects.raw("SELECT * FROM clinic_visit WHERE patient_id = %s", [p.pk])[0].fee
        for p in q(Patient)
    ]


@loop(join("doctor", "Patient"))
def using_default(q):
    return [p.doctor.name for p in q(Patient).using("default")]


@loop(("in_bulk", "clinic.Patient: in_bulk(...)"))
def get_by_fk_id(q):
    return [Patient.objects.get(pk=v.patient_id).name for v in q(Visit)]


follow("get_by_fk_id")(lambda q: by_key(q, Patient, "name"))


@loop(UNSURE)
def filter_reverse_first(q):
    return [Patient.objects.filter(visits=v).first().name for v in q(Visit)]


@loop(UNSURE)
def iexact(q):
    return [Drug.objects.filter(name__iexact=f"DRUG {n} A").first().code for n in range(7)]


@loop(("in_bulk", "clinic.Drug: in_bulk(...)"))
def pk_in_one(q):
    return [Drug.objects.filter(pk__in=[n]).first().code for n in range(1, 8)]


follow("pk_in_one")(lambda q: [one.code for one in Drug.objects.in_bulk(range(1, 8)).values()])


@loop(UNSURE)
def duplicates(q):
    return [Patient.objects.filter(doctor=p.doctor_id).exclude(pk=p.pk).exists() for p in q(Patient)]


@loop(fetch("patients", "Doctor"), figure('visits_count=Count("visits", distinct=True)', "Patient"))
def nested_two_counts(q):
    return [[p.visits.count() for p in d.patients.all()] for d in q(Doctor)]


follow("nested_two_counts")(
    lambda q: [
        [p.visits_count for p in d.patients.all()]
        for d in q(Doctor).prefetch_related(None).prefetch_related(Prefetch("patients", q(Patient)))
    ]
)


@loop(fetch("visits", "Patient"), fetch("visits__doctor", "Patient"))
def nested_fk_in_related(q):
    return [[v.doctor.name for v in p.visits.all()] for p in q(Patient)]


@loop(fetch("visits", "Patient"), fetch("visits__drugs", "Patient"))
def nested_m2m(q):
    return [[[d.name for d in v.drugs.all()] for v in p.visits.all()] for p in q(Patient)]


@loop(fetch("drugs", "Visit"), fetch("drugs__maker", "Visit"))
def nested_m2m_fk(q):
    return [[d.maker.name for d in v.drugs.all()] for v in q(Visit)]


@loop(
    chosen("Patient.objects.filter(name__startswith=...)", "patients", "Doctor"),
    chosen("Visit.objects.filter(status__startswith=...)", "visits", "Patient"),
    fills=("'p'", "chosen"),
)
def nested_filter(q):
    return [
        [
            [v.fee for v in p.visits.filter(status__startswith="p")]
            for p in d.patients.filter(name__startswith="p")
        ]
        for d in q(Doctor)
    ]


follow("nested_filter")(lambda q: [[[v.fee for v in p.chosen] for p in d.chosen] for d in q(Doctor)])


@loop(join("patient", "Visit"))
def page_fk(q):
    return [v.patient.name for v in Paginator(q(Visit).order_by("pk"), 10).page(1)]


@loop(figure('visits_count=Count("visits", distinct=True)', "Patient"))
def page_count(q):
    return [p.visits.count() for p in Paginator(q(Patient).order_by("pk"), 10).page(1)]


follow("page_count")(lambda q: [p.visits_count for p in Paginator(q(Patient).order_by("pk"), 10).page(1)])


@loop(fetch("visits", "Patient"))
def len_all(q):
    return [len(p.visits.all()) for p in q(Patient)]


@loop(fetch("visits", "Patient"))
def sum_python(q):
    return [sum(v.fee for v in p.visits.all()) for p in q(Patient)]


@loop(chosen("Visit.objects.filter(status=...)", "visits", "Patient"), fills=("'open'", "chosen"))
def truth_filter(q):
    return [bool(p.visits.filter(status="open")) for p in q(Patient)]


follow("truth_filter")(lambda q: [bool(p.chosen) for p in q(Patient)])


@loop(chosen("Visit.objects.filter(...)", "visits", "Patient"), fills=("~Q(status='open')", "chosen"))
def exclude_list(q):
    return [[v.fee for v in p.visits.exclude(status="open")] for p in q(Patient)]


follow("exclude_list")(lambda q: [[v.fee for v in p.chosen] for p in q(Patient)])


@loop(chosen("Visit.objects.annotate(...)", "visits", "Patient"), fills=("n=Count('drugs')", "chosen"))
def annotated_related(q):
    return [[v.n for v in p.visits.annotate(n=Count("drugs"))] for p in q(Patient)]


follow("annotated_related")(lambda q: [[v.n for v in p.chosen] for p in q(Patient)])


@loop(
    chosen("Visit.objects.annotate(...)", "visits", "Patient"),
    fills=("has=Exists(Dose.objects.filter(visit=OuterRef('pk')))", "chosen"),
)
def subquery_annotated(q):
    has = Exists(Dose.objects.filter(visit=OuterRef("pk")))
    return [[v.has for v in p.visits.annotate(has=has)] for p in q(Patient)]


follow("subquery_annotated")(lambda q: [[v.has for v in p.chosen] for p in q(Patient)])


@loop(fetch("nurses", "Patient"))
def model_to_dict_m2m(q):
    return [model_to_dict(p, fields=["name", "nurses"]) and 1 for p in q(Patient)]


@loop(fetch("nurses", "Patient"))
def core_serialize_fk_natural(q):
    return core_serializers.serialize("json", q(Patient))


@loop(join("patient", "Visit"))
def str_follows(q):
    return [str(v) for v in q(Visit)]


@loop(figure('patients_min=Min("patients__visits__day")', "Doctor"))
def comprehension_min(q):
    return {d.name: d.patients.aggregate(Min("visits__day"))["visits__day__min"] for d in q(Doctor)}


follow("comprehension_min")(lambda q: {d.name: d.patients_min for d in q(Doctor)})


@loop(
    fetch("visits", "Patient"),
    fetch("visits__doctor", "Patient"),
    behind("visits", "Patient", 'Visit.objects.select_related("doctor__department")'),
)
def many_one_one(q):
    return [[v.doctor.department.name for v in p.visits.all()] for p in q(Patient)]


@loop(fetch("visits", "Patient"), fetch("visits__doctor", "Patient"), UNSURE)
def many_one_one_one(q):
    return [[v.doctor.department.parent.name for v in p.visits.all()] for p in q(Patient)]


@loop(fetch("nurses", "Patient"), fetch("nurses__city", "Patient"))
def m2m_one_one(q):
    return [[n.city.name for n in p.nurses.all()] for p in q(Patient)]


@loop(
    fetch("dose_set", "Visit"),
    fetch("dose_set__drug", "Visit"),
    behind("dose_set", "Visit", 'Dose.objects.select_related("drug__maker")'),
    join("doctor", "Visit"),
)
def many_one_two_ways(q):
    return [[(d.drug.maker.name, d.visit.doctor.name) for d in v.dose_set.all()] for v in q(Visit)]


@loop(join("patient__doctor", "Visit"), join("patient", "Visit"))
def two_fks_to_related(q):
    return [(v.doctor.name, v.patient.doctor.name) for v in q(Visit)]


follow("two_fks_to_related")(
    lambda q: [(v.doctor.name, v.patient.doctor.name) for v in q(Visit).select_related("doctor")]
)


@loop(join("doctor", "Visit"), UNSURE, join("patient", "Visit"), join("patient__doctor", "Visit"), UNSURE)
def two_fks_two_lines(q):
    found = []
    for v in q(Visit):
        mine = v.doctor.department.name
        other = v.patient.doctor.department.name
        found.append((mine, other))
    return found


@loop(join("invoice", "Line"), join("invoice__visit", "Line"), join("invoice__visit__patient", "Line"))
def str_of_two_levels(q):
    return [f"{line.invoice.visit.patient}: {line.amount}" for line in q(Line)]


@loop(join("patient", "Visit"), join("doctor", "Visit"), join("doctor__department", "Visit"))
def list_view(q):
    class View(ListView):
        model = Visit
        paginate_by = 10

        def get_queryset(self):
            return q(Visit).order_by("pk")

        def render_to_response(self, context):
            return render(
                "{% for v in object_list %}{{ v.patient.name }} {{ v.doctor.department }}{% endfor %}",
                **{k: context[k] for k in ("object_list",)},
            )

    return View.as_view()(RequestFactory().get("/"))


@loop(join("patient", "Visit"), join("invoice", "Visit"))
def api_view(q):
    class One(serializers.ModelSerializer):
        patient = serializers.CharField(source="patient.name")
        total = serializers.IntegerField(source="invoice.total")

        class Meta:
            model = Visit
            fields = ("patient", "total")

    class Pages(PageNumberPagination):
        page_size = 10

    class View(ListAPIView):
        serializer_class = One
        pagination_class = Pages
        authentication_classes = permission_classes = ()

        def get_queryset(self):
            return q(Visit).order_by("pk")

    return View.as_view()(APIRequestFactory().get("/")).data["results"]


@loop(
    join("doctor", "Patient"),
    figure('visits_count=Count("visits", distinct=True)', "Patient"),
    fetch("nurses", "Patient"),
)
def csv_export(q):
    out = io.StringIO()
    writer = csv.writer(out)
    for p in q(Patient):
        writer.writerow([p.name, p.doctor.name, p.visits.count(), ", ".join(n.name for n in p.nurses.all())])
    return out.getvalue()


@follow("csv_export")
def csv_export_followed(q):
    out = io.StringIO()
    writer = csv.writer(out)
    for p in q(Patient):
        writer.writerow([p.name, p.doctor.name, p.visits_count, ", ".join(n.name for n in p.nurses.all())])
    return out.getvalue()


@loop(join("doctor", "Patient"))
def group_by_python(q):
    return [
        (name, len(list(rows)))
        for name, rows in itertools.groupby(q(Patient).order_by("pk"), lambda p: p.doctor.name)
    ]


@loop(join("doctor", "Patient"), join("doctor__user", "Patient"))
def generator_function(q):
    def names():
        for p in q(Patient):
            yield p.doctor.user.username

    return list(names())


@loop(join("doctor", "Patient"))
def in_bulk_then_fk(q):
    return [p.doctor.name for p in q(Patient).in_bulk().values()]


@loop(join("doctor", "Patient"))
def dict_of_rows(q):
    known = {p.pk: p for p in q(Patient)}
    return [known[key].doctor.name for key in sorted(known)]


@loop(("load_field", "clinic.Patient.history"))
def only_joined_name(q):
    return [
        v.patient.name + v.patient.history
        for v in q(Visit).select_related("patient").only("day", "patient__name")
    ]


follow("only_joined_name")(
    lambda q: [
        v.patient.name + v.patient.history
        for v in q(Visit).select_related("patient").only("day", "patient__name", "patient__history")
    ]
)


@loop(("in_bulk", "clinic.Patient: in_bulk(...)"))
def values_then_get(q):
    return [Patient.objects.get(pk=row["patient"]).name for row in q(Visit).values("patient")]


follow("values_then_get")(lambda q: by_key(q, Patient, "name"))


@loop(fetch("patient", "Visit"))
def raw_rows_fk(q):
    return [v.patient.name for v in Visit.objects.raw("SELECT * FROM clinic_visit")]


follow("raw_rows_fk")(
    lambda q: [
        v.patient.name for v in Visit.objects.raw("SELECT * FROM clinic_visit").prefetch_related("patient")
    ]
)


@loop(join("doctor", "Patient"))
def annotated_root_fk(q):
    return [(p.n, p.doctor.name) for p in q(Patient).annotate(n=Count("visits"))]


@loop(join("doctor", "Patient"))
def union_root_fk(q):
    rows_ = q(Patient).filter(pk__lt=5).union(q(Patient).filter(pk__gt=8))
    return sorted(p.doctor.name for p in rows_)


@loop(
    ("select_related", 'auth.User: select_related("clinic_doctor")'),
    ("select_related", 'auth.User: select_related("clinic_doctor__department")'),
)
def deep_reverse_one_to_one(q):
    return [u.clinic_doctor.department.name for u in q(User).filter(username__startswith="clinic")]


@loop(
    fetch("visits__doctor", "Patient"),
    behind("visits", "Patient", 'Visit.objects.select_related("doctor__department")'),
)
def prefetched_then_fk_fk(q):
    return [[v.doctor.department.name for v in p.visits.all()] for p in q(Patient).prefetch_related("visits")]


@loop(join("doctor", "Visit"), join("doctor__department", "Visit"))
def prefetched_to_attr_fk_fk(q):
    some = Prefetch("visits", q(Visit).filter(status="open"), to_attr="open")
    return [[v.doctor.department.name for v in p.open] for p in q(Patient).prefetch_related(some)]


@loop(fetch("invoice__lines", "Visit"))
def select_reverse_then_many(q):
    return [[line.amount for line in v.invoice.lines.all()] for v in q(Visit).select_related("invoice")]


@loop(fetch("invoice__lines", "Visit"), fetch("invoice__lines__drug", "Visit"))
def select_reverse_then_many_then_fk(q):
    return [[line.drug.name for line in v.invoice.lines.all()] for v in q(Visit).select_related("invoice")]


@loop(chosen('Visit.objects.order_by("-day")[:1]', "visits", "Patient"), fills=("chosen",))
def sitemap_items(q):
    class Map(Sitemap):
        def items(self):
            return q(Patient)

        def lastmod(self, item):
            return item.visits.latest().day

    site = Map()
    return [site.lastmod(item) for item in site.items()]


follow("sitemap_items")(lambda q: [p.chosen[0].day for p in q(Patient)])


@loop(chosen("Visit.objects.filter(fee__gt=...)", "visits", "Patient"), fills=("3", "chosen"))
def related_manager_passed(q):
    def total(manager):
        return sum(v.fee for v in manager.filter(fee__gt=3))

    return [total(p.visits) for p in q(Patient)]


follow("related_manager_passed")(lambda q: [sum(v.fee for v in p.chosen) for p in q(Patient)])


@loop(
    figure('has_visits=Exists(Visit.objects.filter(..., patient=OuterRef("pk")))', "Patient"),
    fills=("~Q(status='paid')",),
)
def related_exclude_exists(q):
    return [p.visits.exclude(status="paid").exists() for p in q(Patient)]


follow("related_exclude_exists")(lambda q: [p.has_visits for p in q(Patient)])


@loop(
    chosen("Visit.objects.filter(doctor__department__name__startswith=...)", "visits", "Patient"),
    fills=("'dep'", "chosen"),
)
def related_filter_joined(q):
    return [[v.fee for v in p.visits.filter(doctor__department__name__startswith="dep")] for p in q(Patient)]


follow("related_filter_joined")(lambda q: [[v.fee for v in p.chosen] for p in q(Patient)])


@loop(UNSURE)
def related_filter_count_joined(q):
    return [p.visits.filter(drugs__name__contains="1").count() for p in q(Patient)]


@loop(chosen('Visit.objects.order_by("-doctor__name")[:1]', "visits", "Patient"), fills=("chosen",))
def related_order_by_joined_first(q):
    return [p.visits.order_by("-doctor__name").first().fee for p in q(Patient)]


follow("related_order_by_joined_first")(lambda q: [p.chosen[0].fee for p in q(Patient)])


@loop(fetch("nurses", "Patient"))
def m2m_values_list(q):
    return [list(p.nurses.values_list("name", flat=True)) for p in q(Patient)]


follow("m2m_values_list")(lambda q: [[n.name for n in p.nurses.all()] for p in q(Patient)])


@loop(figure('cares_for_count=Count("cares_for", distinct=True)', "Staff"))
def m2m_reverse_count(q):
    return [s.cares_for.count() for s in q(Staff)]


follow("m2m_reverse_count")(lambda q: [p.cares_for_count for p in q(Staff)])


@loop(chosen("Patient.objects.filter(is_archived=...)", "cares_for", "Staff"), fills=("False", "chosen"))
def m2m_reverse_filter(q):
    return [[p.name for p in s.cares_for.filter(is_archived=False)] for s in q(Staff)]


follow("m2m_reverse_filter")(lambda q: [[v.name for v in p.chosen] for p in q(Staff)])


@loop(
    chosen("Dose.objects.filter(drug__maker__name=...)", "dose_set", "Visit"), fills=("'maker 1'", "chosen")
)
def m2m_through_filter_relation(q):
    return [[d.grams for d in Dose.objects.filter(visit=v, drug__maker__name="maker 1")] for v in q(Visit)]


follow("m2m_through_filter_relation")(lambda q: [[v.grams for v in p.chosen] for p in q(Visit)])


@loop(fetch("visits", "Patient"))
def filter_by_fk_pk(q):
    return [[v.fee for v in Visit.objects.filter(patient__pk=p.pk)] for p in q(Patient)]


follow("filter_by_fk_pk")(lambda q: [[v.fee for v in p.visits.all()] for p in q(Patient)])


@loop(("in_bulk", "clinic.Visit: filter(patient__in=...)"))
def filter_in_single(q):
    return [[v.fee for v in Visit.objects.filter(patient__in=[p])] for p in q(Patient)]


follow("filter_in_single")(
    lambda q: grouped(q(Patient), Visit.objects.filter(patient__in=q(Patient)), lambda v: v.fee, "patient_id")
)


@loop(
    chosen('Patient.objects.filter(is_archived=...).order_by("pk")[:1]', "patients", "Doctor"),
    fills=("True", "chosen"),
)
def filter_related_id(q):
    return [Patient.objects.filter(doctor_id=d.pk, is_archived=True).first().name for d in q(Doctor)]


follow("filter_related_id")(lambda q: [p.chosen[0].name for p in q(Doctor)])


@loop(chosen("Visit.objects.filter(status=...)", "visits", "Patient"), fills=("'open'", "chosen"))
def get_related_condition(q):
    return [p.visits.get(status="open").fee for p in q(Patient)]


follow("get_related_condition")(lambda q: [p.chosen[0].fee for p in q(Patient)])


@loop(("select_related", 'auth.User: select_related("clinic_doctor")'))
def doctor_of_user_get(q):
    return [Doctor.objects.get(user=u).name for u in q(User).filter(username__startswith="clinic")]


follow("doctor_of_user_get")(
    lambda q: [u.clinic_doctor.name for u in q(User).filter(username__startswith="clinic")]
)


@loop(
    (
        "annotate",
        'auth.User: annotate(has_groups=Exists(Group.objects.filter(user=OuterRef("pk"), name=...)))',
    ),
    fills=("'x'",),
)
def permission_check(q):
    return [u.groups.filter(name="x").exists() for u in q(User).filter(username__startswith="clinic")]


follow("permission_check")(lambda q: [u.has_groups for u in q(User).filter(username__startswith="clinic")])


@loop(("prefetch_related", 'auth.User: prefetch_related("groups")'))
def user_groups_names(q):
    return [[g.name for g in u.groups.all()] for u in q(User).filter(username__startswith="clinic")]


@loop(join("parent", "Department"))
def tree_walk_up(q):
    found = []
    for d in q(Department).filter(name__startswith="unit"):
        while d.parent:
            d = d.parent
        found.append(d.name)
    return found


follow("tree_walk_up")(
    lambda q: [
        "clinic"
        for d in q(Department).select_related("parent__parent")
        if d.name.startswith("unit") and not d.parent.parent.parent
    ]
)


@loop(join("patient__doctor", "Visit"), join("patient", "Visit"))
def fk_id_compare(q):
    return [v.doctor == v.patient.doctor for v in q(Visit)]


follow("fk_id_compare")(lambda q: [v.doctor == v.patient.doctor for v in q(Visit).select_related("doctor")])


@loop(UNSURE)
def hidden_reverse_count_template(q):
    return [Visit.objects.filter(doctor=d, status="open").count() for d in q(Doctor)]


@loop(("bulk_delete", "clinic.Dose"))
def delete_related_rows(q):
    for v in q(Visit):
        v.dose_set.filter(grams=1).delete()
    return Dose.objects.count()


follow("delete_related_rows")(
    lambda q: [Dose.objects.filter(visit__in=q(Visit), grams=1).delete()] and Dose.objects.count()
)


@loop(UNSURE)
def aggregate_whole_in_loop(q):
    return [Visit.objects.filter(day__month=m).count() for m in range(1, 9)]


@loop(("annotate", 'clinic.Visit: values("status").annotate(...)'))
def status_counts(q):
    return [Visit.objects.filter(status=s).count() for s in ("open", "paid", "a", "b", "c", "d")]


@follow("status_counts")
def status_counts_followed(q):
    known = dict(Visit.objects.order_by().values_list("status").annotate(n=Count("pk")))
    return [known.get(status, 0) for status in ("open", "paid", "a", "b", "c", "d")]


@loop(("in_bulk", "clinic.Drug: filter(code__in=...)"))
def exists_by_values(q):
    return [Drug.objects.filter(code=c).exists() for c in CODES]


@follow("exists_by_values")
def exists_by_values_followed(q):
    known = set(Drug.objects.filter(code__in=CODES).values_list("code", flat=True))
    return [code in known for code in CODES]


@loop(("in_bulk", "clinic.Drug: filter(code__in=...)"))
def get_or_none(q):
    found = []
    for code in CODES:
        try:
            found.append(Drug.objects.select_related("maker").get(code=code).maker.name)
        except Drug.DoesNotExist:
            found.append(None)
    return found


@follow("get_or_none")
def get_or_none_followed(q):
    known = {
        drug.code: drug.maker.name for drug in Drug.objects.select_related("maker").filter(code__in=CODES)
    }
    return [known.get(code) for code in CODES]


@loop(fetch("files", "Patient"))
def generic_filter(q):
    ct = ContentType.objects.get_for_model(Patient)
    return [[f.path for f in File.objects.filter(content_type=ct, object_id=p.pk)] for p in q(Patient)]


follow("generic_filter")(lambda q: [[f.path for f in p.files.all()] for p in q(Patient)])


@loop(chosen('File.objects.order_by("-pk")', "files", "Patient"), fills=("chosen",))
def generic_last(q):
    return [p.files.last().path for p in q(Patient)]


follow("generic_last")(lambda q: [p.chosen[0].path for p in q(Patient)])


@loop(
    chosen("Ward.objects.filter(name__startswith=...)[:...]", "wards", "Staff"),
    fills=("'ward'", "1", "chosen"),
)
def ward_limit(q):
    return [s.wards.filter(name__startswith="ward")[0].name for s in q(Staff)]


follow("ward_limit")(lambda q: [p.chosen[0].name for p in q(Staff)])


@loop(join("staff", "Human"), fetch("staff__wards", "Human"))
def human_to_staff_wards(q):
    return [[w.name for w in h.staff.wards.all()] for h in q(Human)]


@loop(fetch("people", "City"), fetch("people__staff", "City"))
def city_people_staff(q):
    return [[h.staff.badge for h in c.people.all()] for c in q(City)]
