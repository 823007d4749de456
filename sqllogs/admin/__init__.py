"""Review slow queries and read records in the Django admin."""

from sqllogs.admin import records, statements  # noqa: F401  (register their models)
