"""Application code is told from libraries."""

import os
import sys

import django
import pytest
import rest_framework

import sqllogs
from sqllogs.capture import call_site
from sqllogs.capture.call_site import CallSites, is_application
from sqllogs.conf import Conf
from sqllogs.models import SQLLog


def test_name_has_the_length_of_its_column():
    assert SQLLog._meta.get_field("call_site").max_length == call_site.MAX_CHARACTERS


@pytest.mark.parametrize(
    "path",
    [
        os.__file__,  # standard library
        django.__file__,  # Django
        rest_framework.__file__,  # an installed package
        sqllogs.__file__,  # this one
        "/srv/venv/lib/python3.12/site-packages/shop/models.py",  # another environment's package
        "<frozen importlib._bootstrap>",  # generated
        "<string>",  # exec
    ],
)
def test_library_is_no_application(path):
    assert not is_application(path)


@pytest.mark.parametrize("path", [__file__, "/srv/shop/views.py", sqllogs.__path__[0] + "_extra/a.py"])
def test_application_is_application(path):
    assert is_application(path)


def test_files_are_looked_at_once_and_forgotten_when_too_many():
    is_application.cache_clear()
    for _ in range(3):
        assert is_application("/srv/shop/views.py")
    assert is_application.cache_info().misses == 1
    assert is_application.cache_info().maxsize == call_site.FILES_MAX


def test_names_of_code_that_is_gone_are_not_given_to_new_code():
    sites = CallSites(Conf())
    names = set()
    for number in range(50):
        scope = {"sys": sys}
        exec(compile(f"def f{number}(): return sys._getframe()", f"/srv/f{number}.py", "exec"), scope)
        frame = scope[f"f{number}"]()
        names.add(sites.name(frame.f_code, frame.f_lasti))
        del frame, scope
    assert len(names) == 50
