"""Give each management command a unit of work.

Django has no signal for a command's start, so `BaseCommand.execute` is wrapped,
once. A command called within another unit of work stays a part of it.
"""

from functools import wraps
from typing import Any

from django.core.management.base import BaseCommand

from sqllogs.context import current, unit_of_work


def install() -> None:
    """Wrap `BaseCommand.execute`; a second call does nothing."""
    original = BaseCommand.execute
    if getattr(original, "sqllogs", False):
        return

    @wraps(original)
    def execute(self: BaseCommand, *args: Any, **options: Any) -> Any:
        if current.get() is not None:
            return original(self, *args, **options)
        with unit_of_work("command", self.__module__.rpartition(".")[2]):
            return original(self, *args, **options)

    execute.sqllogs = True  # type: ignore[attr-defined]
    BaseCommand.execute = execute  # type: ignore[method-assign]
