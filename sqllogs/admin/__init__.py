"""The SQL log in the Django admin, to be read only; a module for each model.

Imported by the admin alone, where there is one.
"""

from sqllogs.admin import records  # noqa: F401  (registers its model)
