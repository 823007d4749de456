"""A tag and a filter of the site of the examples, as `{% load shelf %}`."""

from django.template import Library

from tests.sqllogs.advice_models import Tag

register = Library()


@register.simple_tag
def all_tags():
    return list(Tag.objects.order_by("name"))


@register.filter
def country_name(author):
    return author.country.name
