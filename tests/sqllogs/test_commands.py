"""A management command is a unit of work by its name."""

import asyncio

import pytest
from django.core.management import call_command
from django.core.management.base import BaseCommand

from sqllogs import apps
from sqllogs.context import current, unit_of_work


class Command(BaseCommand):
    requires_system_checks = []

    def handle(self, *args, **options):
        self.unit = current.get()


@pytest.fixture
def hook(monkeypatch):
    monkeypatch.setattr(BaseCommand, "execute", BaseCommand.execute)
    apps.install_command_units()


@pytest.mark.usefixtures("hook")
def test_command_runs_in_a_unit_of_its_name():
    command = Command()
    call_command(command)
    assert (command.unit.kind, command.unit.view) == ("command", "test_commands")
    assert current.get() is None


@pytest.mark.usefixtures("hook")
def test_command_called_in_a_unit_belongs_to_it():
    command = Command()
    with unit_of_work("task", "nightly") as unit:
        call_command(command)
    assert command.unit is unit


def command_of(module):
    return type("Command", (Command,), {"__module__": module})()


@pytest.mark.usefixtures("hook")
@pytest.mark.parametrize(
    ("module", "kind", "repeats_allowed", "muted"),
    [
        ("django.core.management.commands.migrate", "command", True, False),
        ("django.contrib.auth.management.commands.createsuperuser", "command", True, False),
        ("django_extensions.management.commands.runscript", "command", False, False),
        ("shop.management.commands.nightly", "command", False, False),
        ("sqllogs.management.commands.sqllogs", "muted", False, True),
    ],
)
def test_commands_of_django_are_no_suspects_and_ours_record_nothing(module, kind, repeats_allowed, muted):
    command = command_of(module)
    call_command(command)
    unit = command.unit
    assert (unit.kind, unit.repeats_allowed, unit.muted) == (kind, repeats_allowed, muted)
    assert current.get() is None


@pytest.mark.usefixtures("hook")
def test_command_of_django_is_no_suspect_within_another_command():
    migrate, seen = command_of("django.core.management.commands.migrate"), []

    class Setup(BaseCommand):
        requires_system_checks = []

        def handle(self, *args, **options):
            call_command(migrate)
            seen.append(current.get())

    Setup.__module__ = "shop.management.commands.setup"
    call_command(Setup())
    (setup,) = seen
    assert (migrate.unit.view, migrate.unit.repeats_allowed) == ("setup", True)
    assert (setup.view, setup.repeats_allowed) == ("setup", False)


@pytest.mark.usefixtures("hook")
def test_block_within_a_command_is_a_unit_of_its_own():
    """A worker of a task queue is an endless command."""
    with unit_of_work("command", "worker") as command:
        with unit_of_work("task", "nightly") as task:
            assert current.get() is task is not command
        assert current.get() is command


@unit_of_work("task")
def plain(number):
    return number, current.get()


@unit_of_work("task", "named")
async def coroutine():
    return current.get()


def test_decorated_functions_are_units_named_by_their_path():
    (one, first), (two, second) = plain(1), plain(2)
    assert (one, two, first.view) == (1, 2, f"{__name__}.plain")
    assert first is not second
    assert (first.ended, current.get()) == (True, None)
    unit = asyncio.run(coroutine())
    assert (unit.kind, unit.view, unit.ended) == ("task", "named", True)


@pytest.mark.parametrize("kind", [None, "", 3])
def test_kind_that_is_no_word_is_a_thread(kind):
    with unit_of_work(kind, kind) as unit:
        assert (unit.kind, unit.view) == ("thread", "" if kind == "" else None)


@pytest.mark.usefixtures("hook")
def test_hook_is_installed_once():
    once = BaseCommand.execute
    apps.install_command_units()
    assert BaseCommand.execute is once
