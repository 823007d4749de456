"""Tell whether anything has been written since a former answer. Runs in the reader's thread."""

from datetime import datetime

from django.db.models import Count, Max, Sum

from sqllogs.models import Process, RingHead, SQLLog
from sqllogs.queries.places import Ring, live


def version() -> str:
    """Return a text that changes with every batch written; read it before what it stands for.

    The head alone would not do: a number is given out before its record is there. What a
    process has stored is written in one transaction with the records.
    """
    head = RingHead.objects.filter(id=1).values_list("seq", "capacity", "epoch").first()
    processes = Process.objects.aggregate(Count("uuid"), Sum("captured"), Sum("stored"), Max("updated_at"))
    return repr((head, *processes.values()))


def has_records_between(ring: Ring, one: datetime, other: datetime) -> bool:
    since, until = sorted((one, other))
    if since == until:
        return False
    return live(SQLLog.objects.filter(time__gte=since, time__lt=until), ring).exists()
