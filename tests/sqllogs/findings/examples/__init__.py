"""Bad and good examples of each kind of finding, as Django code on real databases.

Each is a view, a page of the admin, or a task. A bad one must be found as its kind; a good one must not be.
Feeds tests/sqllogs/findings/test_examples.py and `make bench BENCH=findings`, by way of `__main__`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ALL = ("sqlite", "postgresql")
POSTGRESQL = ("postgresql",)
SERVERS = ("postgresql", "mariadb")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    kind: str
    is_bad: bool
    view: Callable[[Any], Any]
    """Takes the request, None in a task; or a ModelAdmin."""
    unit: str
    """`request`, `command` or `task`."""
    on: tuple[str, ...]
    also: tuple[str, ...]
    """Kinds that are right besides."""
    times: int
    """How often it is requested."""
    path: str
    """Of a page of Django's admin; else that of the example."""

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.view.__name__}"


EXAMPLES: list[Example] = []
TEMPLATES: dict[str, str] = {}
"""Text by name, which is that of the example."""


def examples_of(kind: str) -> tuple[Any, Any]:
    """Return the decorators for bad and for good examples of a kind."""

    def decorator(is_bad: bool) -> Any:
        def mark(*, template="", unit="request", on=ALL, also=(), times=1, path=""):
            def add(view):
                if template:
                    TEMPLATES[f"{view.__name__}.html"] = template
                given = {"unit": unit, "on": on, "also": also, "times": times, "path": path}
                EXAMPLES.append(Example(kind=kind, is_bad=is_bad, view=view, **given))
                return view

            return add

        return mark

    return decorator(True), decorator(False)
