"""A management command is a unit of work by its name."""

import pytest
from django.core.management import call_command
from django.core.management.base import BaseCommand

from sqllogs import context
from sqllogs.context import current, unit_of_work


class Command(BaseCommand):
    requires_system_checks = []

    def handle(self, *args, **options):
        self.unit = current.get()


@pytest.fixture
def hook(monkeypatch):
    monkeypatch.setattr(BaseCommand, "execute", BaseCommand.execute)
    context.install_command_units()


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


@pytest.mark.usefixtures("hook")
def test_hook_is_installed_once():
    once = BaseCommand.execute
    context.install_command_units()
    assert BaseCommand.execute is once
