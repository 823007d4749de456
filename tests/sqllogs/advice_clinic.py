"""Models as a clinic's site has them: accounts, a tree, through tables, files of anything, archived rows.

Feeds tests/sqllogs/advice_clinic_loops.py.
"""

from datetime import date
from functools import cached_property

from django.contrib.auth.models import Group, User
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models

ROWS = 7


class Named(models.Model):
    name = models.CharField(max_length=50)

    class Meta:
        abstract = True
        app_label = "clinic"

    def __str__(self):
        return self.name


class City(Named):
    class Meta:
        app_label = "clinic"


class Department(Named):
    parent = models.ForeignKey("self", models.CASCADE, null=True, related_name="children")

    class Meta:
        app_label = "clinic"


class Human(Named):
    city = models.ForeignKey(City, models.CASCADE, related_name="people")

    class Meta:
        app_label = "clinic"


class Staff(Human):
    badge = models.IntegerField(default=1)

    class Meta:
        app_label = "clinic"


class Doctor(Named):
    user = models.OneToOneField(User, models.CASCADE, related_name="clinic_doctor")
    department = models.ForeignKey(Department, models.CASCADE, related_name="doctors")
    deputy = models.OneToOneField("self", models.SET_NULL, null=True, related_name="deputy_of")

    class Meta:
        app_label = "clinic"


class Patients(models.QuerySet):
    def alive(self):
        return self.filter(is_archived=False)


class Unarchived(models.Manager.from_queryset(Patients)):
    def get_queryset(self):
        return super().get_queryset().filter(is_archived=False)


class File(models.Model):
    content_type = models.ForeignKey(ContentType, models.CASCADE, related_name="+")
    object_id = models.PositiveIntegerField()
    target = GenericForeignKey()
    path = models.CharField(max_length=50)

    class Meta:
        app_label = "clinic"

    def __str__(self):
        return f"{self.path} of {self.target}"


class Patient(Named):
    doctor = models.ForeignKey(Doctor, models.CASCADE, related_name="patients")
    nurses = models.ManyToManyField(Staff, related_name="cares_for", blank=True)
    is_archived = models.BooleanField(default=False)
    history = models.TextField(default="long")
    files = GenericRelation(File)

    objects = Patients.as_manager()
    unarchived = Unarchived()

    class Meta:
        app_label = "clinic"

    @property
    def open_visits(self):
        return self.visits.filter(status="open").count()

    @cached_property
    def newest_visit(self):
        return self.visits.order_by("-day")[0]


class Vip(Patient):
    class Meta:
        proxy = True
        app_label = "clinic"


class Maker(Named):
    class Meta:
        app_label = "clinic"


class Drug(Named):
    code = models.CharField(max_length=20, unique=True)
    maker = models.ForeignKey(Maker, models.PROTECT, related_name="+")

    class Meta:
        app_label = "clinic"


class Visit(models.Model):
    patient = models.ForeignKey(Patient, models.CASCADE, related_name="visits")
    doctor = models.ForeignKey(Doctor, models.CASCADE, related_name="+")
    drugs = models.ManyToManyField(Drug, through="Dose", related_name="visits")
    day = models.DateField()
    fee = models.IntegerField(default=10)
    status = models.CharField(max_length=10, default="open")

    class Meta:
        app_label = "clinic"
        ordering = ("day",)
        get_latest_by = "day"

    def __str__(self):
        return f"{self.patient.name} on {self.day}"


class Dose(models.Model):
    visit = models.ForeignKey(Visit, models.CASCADE)
    drug = models.ForeignKey(Drug, models.PROTECT)
    grams = models.IntegerField(default=1)

    class Meta:
        app_label = "clinic"
        unique_together = (("visit", "drug"),)

    def __str__(self):
        return "dose"


class Invoice(models.Model):
    visit = models.OneToOneField(Visit, models.CASCADE, primary_key=True)
    total = models.IntegerField(default=10)

    class Meta:
        app_label = "clinic"

    def __str__(self):
        return "invoice"


class Line(models.Model):
    invoice = models.ForeignKey(Invoice, models.CASCADE, related_name="lines")
    drug = models.ForeignKey(Drug, models.PROTECT, to_field="code", related_name="lines")
    amount = models.IntegerField(default=1)

    class Meta:
        app_label = "clinic"

    def __str__(self):
        return "line"


class Ward(Named):
    head = models.ForeignKey(Staff, models.CASCADE, related_name="wards", limit_choices_to={"badge__gt": 0})

    class Meta:
        app_label = "clinic"


MODELS = (
    City, Department, Human, Staff, Doctor, File, Patient, Maker, Drug, Visit, Dose, Invoice, Line, Ward,
)  # fmt: skip


def populate():
    root = Department.objects.create(name="clinic")
    for number in range(ROWS):
        department = Department.objects.create(name=f"department {number}", parent=root)
        for half in "ab":
            Department.objects.create(name=f"unit {number} {half}", parent=department)
        user = User.objects.create(username=f"clinic {number}")
        doctor = Doctor.objects.create(name=f"doctor {number}", user=user, department=department)
        File.objects.create(target=user, path="photo")
        File.objects.create(target=Group.objects.create(name=f"clinic {number}"), path="list")
        city = City.objects.create(name=f"city {number}")
        staff = Staff.objects.create(name=f"nurse {number}", city=city, badge=number + 1)
        Ward.objects.create(name=f"ward {number}", head=staff)
        maker = Maker.objects.create(name=f"maker {number}")
        drugs = [
            Drug.objects.create(name=f"drug {number} {half}", code=f"{number}{half}", maker=maker)
            for half in "ab"
        ]
        for half in (0, 1):
            patient = Patient.objects.create(
                name=f"patient {number} {half}", doctor=doctor, is_archived=bool(half)
            )
            patient.nurses.add(staff)
            File.objects.create(target=patient, path="scan")
            for month in (1, 2):
                visit = Visit.objects.create(
                    patient=patient, doctor=doctor, day=date(2026, month, number + 1), fee=number + month,
                    status="open" if month == 1 else "paid",
                )  # fmt: skip
                for grams, drug in enumerate(drugs[: 2 - half], 1):
                    Dose.objects.create(visit=visit, drug=drug, grams=grams)
                invoice = Invoice.objects.create(visit=visit, total=number)
                for drug in drugs[: 2 - half]:
                    Line.objects.create(invoice=invoice, drug=drug, amount=month)
                File.objects.create(target=visit, path="letter")
    doctors = list(Doctor.objects.order_by("pk"))
    for doctor, deputy in zip(doctors, doctors[1:] + doctors[:1], strict=True):
        doctor.deputy = deputy
    Doctor.objects.bulk_update(doctors, ["deputy"])


def clear():
    User.objects.filter(username__startswith="clinic ").delete()
    Group.objects.filter(name__startswith="clinic ").delete()
    ContentType.objects.filter(app_label="clinic").delete()
