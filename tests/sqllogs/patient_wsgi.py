"""The site's application, whose processes end as patiently as a busy machine needs."""

from core.wsgi import application
from tests.sqllogs import patient

__all__ = ["application", "patient"]
