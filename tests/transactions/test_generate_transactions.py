"""`manage.py generate_transactions`."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from transactions import generator
from transactions.models import Transaction

pytestmark = pytest.mark.django_db


class Terminal(StringIO):
    def isatty(self):
        return True


def run(*args, stderr=None):
    stdout = StringIO()
    call_command("generate_transactions", *args, stdout=stdout, stderr=stderr)
    return stdout.getvalue()


def test_count_bookings_are_written():
    assert run("--count=30") == "30 transactions generated.\n"
    assert Transaction.objects.count() == 30


def test_if_empty_leaves_what_is_there():
    run("--count=30")
    assert run("--count=50", "--if-empty") == "30 transactions exist already.\n"
    assert Transaction.objects.count() == 30


@pytest.mark.parametrize("count", ["0", "-5"])
def test_a_count_below_one_is_a_clear_error(count):
    with pytest.raises(CommandError, match=r"--count must be at least 1\."):
        run(f"--count={count}")


def test_a_count_that_is_no_number_is_a_clear_error():
    with pytest.raises(CommandError, match="--count: invalid int value: 'many'"):
        run("--count=many")


def test_a_terminal_sees_the_progress():
    stderr = Terminal()
    run("--count=1500", stderr=stderr)
    first, last = stderr.getvalue().split("\r")[1:]
    assert first == f"[{'#' * 20:<30}] 1,000 of 1,500"
    assert last == f"[{'#' * 30}] 1,500 of 1,500\n"


def test_a_file_sees_no_progress():
    stderr = StringIO()
    run("--count=30", stderr=stderr)
    assert stderr.getvalue() == ""


def test_an_interrupted_run_leaves_nothing(monkeypatch):
    def interrupted(*args):
        if args[0].random() < 0.05:
            raise KeyboardInterrupt
        return booking(*args)

    booking = generator._booking
    monkeypatch.setattr(generator, "_booking", interrupted)
    monkeypatch.setattr(generator, "BATCH_ROWS", 5)
    with pytest.raises(KeyboardInterrupt):
        run("--count=500")
    assert not Transaction.objects.exists()
