"""A selection of the faults, each for a second or two: what is compared is counts, not times."""

from collections import Counter

import pytest

from tests.faults.lab import Lab
from tests.faults.outcome import Check, Fault, Measured, run
from tests.faults.rows import FAULTS
from tests.faults.soak import soak
from tests.faults.store import Account


@pytest.fixture(scope="module")
def lab():
    with Lab(short=True) as one:
        yield one


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize("fault", [one for one in FAULTS if one.in_ci], ids=lambda fault: fault.name)
def test_row_holds(fault, lab):
    result = run(fault, lab, timed=False)
    assert result.verdict == "met", result.measured


@pytest.mark.usefixtures("site")
def test_account_balances_through_random_faults(lab):
    assert soak(lab, seconds=4, seed=1).problems == []


def test_names_of_rows_are_unique():
    names = [one.name for one in FAULTS]
    assert len(names) == len(set(names))


def account(**changes):
    figures = {"captured": 3, "stored": 1, "sampled_out": 1, "queued": 1, "lag_ms": 0.0} | changes
    return Account(uuid="a", pid=1, dropped=Counter(), exported=Counter(), **figures)


def test_row_that_does_not_hold_says_what():
    no = Check(text="no error", holds=lambda one: not one.errors)
    slow = Check(text="fast", holds=lambda one: False, timed=True)
    fault = Fault(name="x", run=lambda lab: Measured(errors=1), checks=(no, slow))
    assert run(fault, None).verdict == "NOT MET: no error; fast"
    assert run(fault, None, timed=False).verdict == "NOT MET: no error"


def test_row_that_fails_is_not_met():
    def fail(lab):
        raise ZeroDivisionError("division")

    assert run(Fault(name="x", run=fail, checks=()), None).not_met == ["ZeroDivisionError: division"]


@pytest.mark.parametrize(("captured", "balanced"), [(3, True), (4, False)])
def test_account_is_balanced_when_every_query_is_accounted_for(captured, balanced):
    assert account(captured=captured).is_balanced is balanced
