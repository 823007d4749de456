"""`{% load sqllogs %}`: numbers and times as on the page, whatever the host project's formats are."""

from sqllogs.page.tags import register

__all__ = ["register"]
