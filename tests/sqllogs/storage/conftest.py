"""Run the tests of this folder on MariaDB too."""

from tests.sqllogs.rings import ring_on_every_database

__all__ = ["ring_on_every_database"]
