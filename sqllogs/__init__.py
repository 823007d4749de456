"""Record every SQL statement of a Django application and show it at /sql-logs/.

The way of a query through the files: capture -> buffer -> writer -> ring,
then queries -> views, page and admin.
"""

from sqllogs.context import muted, repeats_allowed, unit_of_work

__all__ = ["muted", "repeats_allowed", "unit_of_work"]
__version__ = "0.1.0"
