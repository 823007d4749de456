"""`{% load sqllogs %}`: numbers and times as on the page, whatever the host project's formats are."""

from sqllogs.page.formatting import register

__all__ = ["register"]
