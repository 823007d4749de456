"""Record every SQL query of a Django application and show it at /sql-logs/.

A query passes through capture -> pipeline -> storage; read, api, page and admin show it.
"""

from sqllogs.context import muted, repeats_allowed, unit_of_work

__all__ = ["muted", "repeats_allowed", "unit_of_work"]
__version__ = "0.1.0"
