"""What a row measured and what it must show, with the checks that many rows share.

Filled by the rows of `tests.faults`; feeds `make faults` and the tests. One thread.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.faults.lab import Lab, NotRunError
from tests.faults.store import Account, Ring

INTERVAL_S = 1.0
"""What a kill -9 may cost: the flush interval of 0.5 s and the batch that is being written."""
BATCH_ROWS = 2_000
P99_RATIO, P99_NOISE_MS = 1.10, 5.0
"""A machine of two cores, which the clients share, is not quieter than that."""
P99_REQUESTS = 500
"""Of fewer the 99th percentile is that of the few slowest: it is shown and not compared."""
RECOVERY_S = 30.0


@dataclass(slots=True, kw_only=True)
class Measured:
    """None is what the row does not measure."""

    load: str = ""
    accounts: list[Account] | None = None
    ring: Ring | None = None
    lost_ages_s: list[float] = field(default_factory=list)
    """Of answered requests without a record: how long before the fault each was answered."""
    answers: int = 0
    errors: int | None = None
    errors_without: int | None = None
    p99_ms: float | None = None
    p99_without_ms: float | None = None
    recovery_s: float | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    """What only this row has."""

    def total(self, name: str) -> int:
        return sum(getattr(account, name) for account in self.accounts or ())

    @property
    def dropped(self) -> Counter[str]:
        return sum((account.dropped for account in self.accounts or ()), Counter())


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    text: str
    """Printed when it does not hold."""
    holds: Callable[[Measured], bool]
    timed: bool = False
    """It compares times: `make faults` checks it, the tests do not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One row of the table."""

    name: str
    run: Callable[[Lab], Measured]
    checks: tuple[Check, ...]
    in_ci: bool = False
    """The tests run it too, for a second or two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    name: str
    measured: Measured
    not_met: list[str]
    not_run: str = ""

    @property
    def verdict(self) -> str:
        if self.not_run:
            return f"not run: {self.not_run}"
        return f"NOT MET: {'; '.join(self.not_met)}" if self.not_met else "met"


def run(fault: Fault, lab: Lab, *, timed: bool = True) -> Result:
    """Let a fault happen and compare; a row that fails itself is not met."""
    try:
        measured = fault.run(lab)
    except NotRunError as exc:
        return Result(name=fault.name, measured=Measured(), not_met=[], not_run=str(exc))
    except (Exception, pytest.fail.Exception) as exc:
        said = " ".join(str(exc).split())[-300:]
        return Result(name=fault.name, measured=Measured(), not_met=[f"{type(exc).__name__}: {said}"])
    checks = [check for check in fault.checks if timed or not check.timed]
    return Result(
        name=fault.name, measured=measured, not_met=[one.text for one in checks if not one.holds(measured)]
    )


def figure(text: str, holds: Callable[[dict[str, Any]], bool], *, timed: bool = False) -> Check:
    """Check what only one row measures."""
    return Check(text=text, holds=lambda measured: holds(measured.figures), timed=timed)


def _as_stored(one: Measured) -> bool:
    """Compare rows; a number that was reserved and not written leaves a gap, and no row."""
    return one.ring is not None and one.ring.rows == min(one.total("stored"), one.ring.capacity)


BALANCED = Check(
    text="captured = stored + sampled out + dropped + queued in each process",
    holds=lambda one: bool(one.accounts) and all(account.is_balanced for account in one.accounts or ()),
)
NONE_DROPPED = Check(text="nothing is dropped", holds=lambda one: not one.dropped)
NONE_QUEUED = Check(text="nothing is left in a queue", holds=lambda one: not one.total("queued"))
NONE_LOST = Check(text="every answered request is in the ring", holds=lambda one: not one.lost_ages_s)
NO_DUPLICATES = Check(
    text="no record is stored twice",
    holds=lambda one: one.ring is not None and one.ring.rows == one.ring.distinct,
)
AS_STORED = Check(
    text="the ring has as many records as the processes stored",
    holds=_as_stored,
)
COMPLETE = (BALANCED, NONE_DROPPED, NONE_QUEUED, NONE_LOST, AS_STORED, NO_DUPLICATES)
"""Nothing is lost."""
COUNTED = (BALANCED, NONE_QUEUED, AS_STORED, NO_DUPLICATES)
"""What is lost is counted."""
LOST_AN_INTERVAL = Check(
    text="lost are at most one flush interval and one batch",
    holds=lambda one: (
        all(-0.2 < age < INTERVAL_S for age in one.lost_ages_s)
        and one.ring is not None
        and 0 <= one.ring.head - one.ring.rows <= BATCH_ROWS
    ),
)
NO_ERRORS = Check(text="no error in the application", holds=lambda one: not one.errors)
P99 = Check(
    text=f"p99 is within {P99_RATIO - 1:.0%} (+ {P99_NOISE_MS:g} ms) of that without sqllogs",
    holds=lambda one: (
        one.p99_without_ms is None
        or one.p99_ms is None
        or one.answers < P99_REQUESTS
        or one.p99_ms <= one.p99_without_ms * P99_RATIO + P99_NOISE_MS
    ),
    timed=True,
)
RECOVERED = Check(
    text=f"stored again within {RECOVERY_S:g} s",
    holds=lambda one: one.recovery_s is not None and one.recovery_s <= RECOVERY_S,
)
FLUSHED = figure("its flush succeeds", lambda seen: bool(seen["flushed"]))
QUIET = figure("no traceback", lambda seen: not seen["traceback"])
SILENT_SERVER = figure("no traceback in the server's log", lambda seen: "Traceback" not in seen["output"])


def sent_and_stored(name: str = "sent") -> Check:
    return Check(
        text="every query sent is in the ring",
        holds=lambda one: one.ring is not None and one.ring.rows == one.figures[name],
    )
