"""How fast 1,000 of 100,000 records are listed, beside a ModelSerializer with DRF's JSONRenderer.

Both answer a request in this process, from the URL to the last byte, by the
same filter, page and rights.
"""

from collections.abc import Callable
from statistics import median
from typing import Any

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connections  # noqa: E402
from rest_framework import serializers  # noqa: E402
from rest_framework.generics import ListAPIView  # noqa: E402
from rest_framework.pagination import LimitOffsetPagination  # noqa: E402
from rest_framework.renderers import JSONRenderer  # noqa: E402

from benchmarks.asking import answer  # noqa: E402
from benchmarks.report import at_least, table  # noqa: E402
from benchmarks.rounds import timed  # noqa: E402
from benchmarks.stores import ALIAS, VENDORS, fill, recorder, ring  # noqa: E402
from sqllogs.api import tokens  # noqa: E402
from sqllogs.api.views import RecordList  # noqa: E402
from sqllogs.models import SQLLog, Statement  # noqa: E402
from sqllogs.read.parameters import SQLLogFilter  # noqa: E402

CAPACITY_ROWS = 100_000
LIMIT = 1_000
ROUNDS = 9
FASTER_MIN = 5
FILTERS = "from=now-1h&to=now%2B1h&min_ms=0.041"


class RecordSerializer(serializers.ModelSerializer[SQLLog]):
    """The straightforward way to the same fields, the statement joined by a dictionary."""

    id = serializers.IntegerField(source="seq")
    sql = serializers.SerializerMethodField()

    class Meta:
        model = SQLLog
        exclude = ("slot", "seq", "unit", "statement_number", "source")

    def get_sql(self, record: SQLLog) -> str | None:
        texts: dict[str, str] = self.context["texts"]
        return texts.get(record.fingerprint)


class Pages(LimitOffsetPagination):
    default_limit = LIMIT


class SerializedList(ListAPIView[SQLLog]):
    serializer_class = RecordSerializer
    renderer_classes = (JSONRenderer,)
    pagination_class = Pages
    authentication_classes = permission_classes = ()

    def get_queryset(self) -> Any:
        return SQLLogFilter.from_query(self.request.GET).qs.order_by("-seq")

    def get_serializer_context(self) -> dict[str, Any]:
        texts = dict(Statement.objects.values_list("fingerprint", "sql"))
        return {**super().get_serializer_context(), "texts": texts}


def main() -> None:
    table(
        f"List of {LIMIT:,} records of {CAPACITY_ROWS:,}, filtered by time and duration",
        ("store", "way", "ms", "of sqllogs", "bytes", "goal"),
        [row for vendor in VENDORS for row in _measured(vendor)],
    )


def _measured(vendor: str) -> list[tuple[object, ...]]:
    with ring(vendor, CAPACITY_ROWS):
        call_command("migrate", database="default", verbosity=0)
        recording = recorder()
        fill(recording, CAPACITY_ROWS)
        recording.delivery.write_all()
        recording.ring.close()
        with connections[ALIAS].cursor() as cursor:
            cursor.execute("ANALYZE")  # on PostgreSQL autovacuum does it within a minute
        headers = {"Authorization": f"Bearer {tokens.create('benchmark')}"}
        ours, theirs = RecordList.as_view(), SerializedList.as_view()
        ways: dict[str, Callable[[], bytes]] = {
            "sqllogs": lambda: answer(ours, f"/?{FILTERS}&limit={LIMIT}", headers),
            "ModelSerializer, JSONRenderer": lambda: answer(theirs, f"/?{FILTERS}", {}),
        }
        sizes = {name: len(way()) for name, way in ways.items()}
        rounds = [{name: timed(way, 1).wall_us / 1000 for name, way in ways.items()} for _ in range(ROUNDS)]
    times_ms = {name: median(one[name] for one in rounds) for name in ways}
    return [
        (
            vendor,
            name,
            took_ms,
            took_ms / times_ms["sqllogs"],
            sizes[name],
            "" if name == "sqllogs" else at_least(took_ms / times_ms["sqllogs"], FASTER_MIN, "times"),
        )
        for name, took_ms in times_ms.items()
    ]


if __name__ == "__main__":
    main()
