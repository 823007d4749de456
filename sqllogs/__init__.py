"""Record every SQL query of a Django application and show it at /sql-logs/.

A query passes through capture -> pipeline -> storage; read, api, page and admin show it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqllogs.context import muted, repeats_allowed, unit_of_work

__all__ = ["muted", "repeats_allowed", "unit_of_work"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: pytest loads our plugin, so this package, in every run."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sqllogs import context

    value = globals()[name] = getattr(context, name)
    return value
