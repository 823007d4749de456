"""Counters, histograms and gauges as plain numbers, and the file of a process that stores them.

Written by `sqllogs.metrics.sink` in the writer's thread, without a lock; others read an immutable
`Snapshot`. Feeds `sqllogs.metrics.collector`.
"""

# prometheus_client's values are not used, because they have no exemplars in multiprocess mode and share one
# lock with the threads of the application.

import os
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson

Labels = tuple[str, ...]
Snapshot = dict[str, list[Any]]
"""Series by family, each as its labels and its `_packed` value."""

FILE = "sqllogs-{}.json"
"""Name of a process's file in the shared folder, by its slot."""
OTHER_LABEL = "other"
LABEL_CHARS_MAX = 200


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Family:
    """All series of one name."""

    name: str
    """Without `_total`, as in prometheus_client."""
    kind: Literal["counter", "histogram", "sum", "max"]
    """sum and max are gauges, by how they are aggregated over processes."""
    help: str
    labels: tuple[str, ...] = ()
    fixed: int = 0
    """Number of labels, from the left, that keep their value beyond `series_max`."""
    series_max: int = 200
    """Further label values are counted under `other`, except for the fixed labels."""
    buckets: tuple[float, ...] = ()


class Exemplar(NamedTuple):
    trace_id: str
    value: float
    time_s: float


class ObservationContext(NamedTuple):
    """The trace of an observed value."""

    trace_id: str
    time_s: float


class Histogram:
    __slots__ = ("buckets", "counts", "exemplars", "sum")

    def __init__(self, buckets: tuple[float, ...]) -> None:
        self.buckets = buckets
        self.counts = [0] * (len(buckets) + 1)
        self.sum = 0.0
        self.exemplars: list[Exemplar | None] = [None] * len(self.counts)

    def observe(self, value: float) -> int:
        """Count a value; return the index of its bucket."""
        bucket = bisect_left(self.buckets, value)
        self.counts[bucket] += 1
        self.sum += value
        return bucket


class MetricValues:
    """The series of some families, at most 2 * series_max + 1 of each, whatever the labels."""

    def __init__(self, families: Iterable[Family]) -> None:
        self.families = {family.name: family for family in families}
        self._series: dict[str, dict[Labels, Any]] = {name: {} for name in self.families}

    def add(self, family: Family, labels: Labels, amount: float) -> None:
        series = self._series[family.name]
        # Known labels have been cleaned and bounded before.
        labels = labels if labels in series else self._bounded(family, labels)
        series[labels] = series.get(labels, 0) + amount

    def set(self, family: Family, labels: Labels, value: float) -> None:
        self._series[family.name][self._bounded(family, labels)] = value

    def observe(
        self, family: Family, labels: Labels, value: float, origin: ObservationContext | None = None
    ) -> None:
        """Count a value; with `origin` it becomes the exemplar of its bucket."""
        histogram = self.histogram(family, labels)
        bucket = histogram.observe(value)
        if origin is not None:
            histogram.exemplars[bucket] = Exemplar(origin.trace_id, value, origin.time_s)

    def histogram(self, family: Family, labels: Labels) -> Histogram:
        series = self._series[family.name]
        found = series.get(labels)
        if found is None:
            labels = self._bounded(family, labels)
            found = series.get(labels) or series.setdefault(labels, Histogram(family.buckets))
        return found  # type: ignore[no-any-return]

    def _bounded(self, family: Family, labels: Labels) -> Labels:
        """Return the labels to count under: these, or `other` when there are too many series."""
        series = self._series[family.name]
        labels = tuple(map(_clean_label, labels))
        if labels in series or len(series) < family.series_max:
            return labels
        kept = labels[: family.fixed]
        collapsed = kept + (OTHER_LABEL,) * (len(labels) - len(kept))
        if collapsed in series or len(series) < 2 * family.series_max:
            return collapsed
        # Even the fixed labels have too many values: one series for all others.
        return (OTHER_LABEL,) * len(labels)

    def series(self, family: Family) -> dict[Labels, Any]:
        return self._series[family.name]

    def snapshot(self) -> Snapshot:
        return {
            name: [(labels, _packed(value)) for labels, value in series.items()]
            for name, series in self._series.items()
            if series
        }

    def absorb(self, snapshot: Snapshot, *, gauges: bool = True) -> None:
        """Add the values of another process; ignore unknown families and other buckets (another version)."""
        for name, series in snapshot.items():
            family = self.families.get(name)
            if family is None or (not gauges and family.kind in ("sum", "max")):
                continue
            for labels, packed in series:
                if len(labels) == len(family.labels):
                    self._absorb(family, tuple(labels), packed)

    def _absorb(self, family: Family, labels: Labels, packed: Any) -> None:
        if family.kind != "histogram":
            before = self._series[family.name].get(labels, 0)
            added = max(before, packed) if family.kind == "max" else before + packed
            self._series[family.name][labels] = added
            return
        counts, total, exemplars = packed
        if len(counts) != len(family.buckets) + 1:
            return
        histogram = self._series[family.name].setdefault(labels, Histogram(family.buckets))
        histogram.sum += total
        for index, count in enumerate(counts):
            histogram.counts[index] += count
        for index, values in exemplars:
            newest, exemplar = histogram.exemplars[index], Exemplar(*values)
            if newest is None or newest.time_s < exemplar.time_s:
                histogram.exemplars[index] = exemplar


def _clean_label(text: str) -> str:
    """Cut a label and escape lone surrogates, because a task name may be made from input.

    One surrogate would make every later file and scrape fail: both are UTF-8.
    """
    return text[:LABEL_CHARS_MAX].encode("utf-8", "backslashreplace").decode()


def _packed(value: Any) -> Any:
    if not isinstance(value, Histogram):
        return value
    exemplars = [(index, tuple(found)) for index, found in enumerate(value.exemplars) if found is not None]
    # A copy, because a scrape reads it while the writer continues to count.
    return (tuple(value.counts), value.sum, exemplars)


def write(path: Path, snapshot: Snapshot) -> None:
    """Replace the file of a process atomically; raise OSError."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)  # left by a killed process, it could have another mode
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(orjson.dumps(snapshot))
    os.replace(new, path)


def read(path: Path) -> Snapshot:
    """Return the snapshot in a file; empty if the file is missing or invalid."""
    try:
        found = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


asked = False
"""Somebody has read the metrics of this process."""
latest: Snapshot = {}
"""The last snapshot of this process, for any of its threads."""
