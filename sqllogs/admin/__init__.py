"""The SQL log in the Django admin: records to be read, statements to be reviewed; a module for each model.

Imported by the admin alone, where there is one.
"""

from sqllogs.admin import records, statements  # noqa: F401  (register their models)
