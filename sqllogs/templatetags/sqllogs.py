"""`{% load sqllogs %}`: the page's number and time filters, for the templates of the admin."""

from sqllogs.page.formatting import register

__all__ = ["register"]
