"""Everything there is to tell Prometheus, as one registry.

Fed by the files of all processes that share a folder, or by this process alone where none is
shared, and by `sqllogs.metrics.facts`; feeds the exporter and the view, in their threads.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar as ClientExemplar
from prometheus_client.utils import floatToGoString

from sqllogs.metrics import figures, slots
from sqllogs.metrics.facts import MIGRATIONS, Facts
from sqllogs.metrics.families import DJANGO_DB, OWN
from sqllogs.metrics.figures import Family, Figures, Histogram, Labels
from sqllogs.metrics.slots import Slots

FILE = "sqllogs-{}.json"


collecting = Lock()
"""Held while there is something to tell; a fork waits for it."""


class SiteRegistry(CollectorRegistry):
    """Answers one scrape at a time."""

    def collect(self) -> Iterator[Metric]:
        with collecting:
            found = list(super().collect())
        yield from found


@cache
def registry() -> CollectorRegistry:
    """Return what the site tells: of all processes if they share a folder, else of this one."""
    made = SiteRegistry(auto_describe=False)
    shared = slots.slots
    if shared is None:
        made.register(_OfRegistry())
    else:
        made.register(OfClientFiles(shared))
        made.register(OfFigureFiles(shared))
    made.register(Facts())
    return made


class _OfRegistry(Collector):
    """prometheus_client's own, of this process; the writer's figures are among them."""

    def collect(self) -> Iterable[Metric]:
        return (metric for metric in REGISTRY.collect() if metric.name not in MIGRATIONS)


class OfClientFiles(Collector):
    """What prometheus_client's metrics in all processes have written, summed."""

    def __init__(self, shared: Slots) -> None:
        self._shared = shared

    def collect(self) -> Iterable[Metric]:
        live = self._shared.live()
        files = [str(path) for path in self._shared.folder.glob("*.db") if not _is_of_dead(path, live)]
        merged = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return (metric for metric in merged if metric.name not in MIGRATIONS)


def _is_of_dead(path: Path, live: set[int]) -> bool:
    """A live gauge ends with its process; all else stays."""
    return path.name.startswith("gauge_live") and int(path.stem.rpartition("_")[2]) not in live


class OfFigureFiles(Collector):
    """The figures of the writers of all processes, summed, with their newest exemplars."""

    def __init__(self, shared: Slots) -> None:
        self._shared = shared

    def collect(self) -> Iterator[Metric]:
        live = self._shared.live()
        total = Figures((*OWN, *DJANGO_DB))
        for path in sorted(self._shared.folder.glob(FILE.format("*"))):
            is_live = int(path.stem.rpartition("-")[2]) in live
            total.absorb(figures.read(path), gauges=is_live)
        yield from metrics(total)
        processes = Metric("sqllogs_processes", "Live processes that share the folder of metrics.", "gauge")
        processes.add_sample("sqllogs_processes", {}, len(live))
        yield processes


class OfProcess(Collector):
    """The figures of this process's writer."""

    def collect(self) -> Iterator[Metric]:
        from sqllogs.metrics import sink

        total = Figures((*OWN, *DJANGO_DB))
        total.absorb(sink.latest)
        yield from metrics(total)


def metrics(total: Figures) -> Iterator[Metric]:
    """Return figures as prometheus_client's exposition takes them; a family without series is left out."""
    for family in total.families.values():
        series = total.series(family)
        if not series:
            continue
        kind = "gauge" if family.kind in ("sum", "max") else family.kind
        metric = Metric(family.name, family.help, kind)
        for labels, value in series.items():
            _add(metric, family, labels, value)
        yield metric


def _add(metric: Metric, family: Family, labels: Labels, value: Any) -> None:
    named = dict(zip(family.labels, labels, strict=True))
    if isinstance(value, Histogram):
        _add_histogram(metric, family, named, value)
    else:
        metric.add_sample(family.name + "_total" * (family.kind == "counter"), named, value)


def _add_histogram(metric: Metric, family: Family, named: dict[str, str], value: Histogram) -> None:
    count = 0
    for edge, inside, found in zip(
        (*family.buckets, float("inf")), value.counts, value.exemplars, strict=True
    ):
        count += inside
        exemplar = found and ClientExemplar({"trace_id": found.trace_id}, found.value, found.time_s)
        le = floatToGoString(edge)  # type: ignore[no-untyped-call]
        metric.add_sample(f"{family.name}_bucket", {**named, "le": le}, count, exemplar=exemplar)
    metric.add_sample(f"{family.name}_count", named, count)
    metric.add_sample(f"{family.name}_sum", named, value.sum)
