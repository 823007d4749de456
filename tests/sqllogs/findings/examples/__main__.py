"""`python -m tests.sqllogs.findings.examples sqlite n_plus_one`: print what is found, a line of JSON each."""

import sys
from importlib import import_module

import django

django.setup()

from tests.sqllogs.findings.examples import running  # noqa: E402

for name in running.MODULES:
    import_module(f"tests.sqllogs.findings.examples.{name}")
running.urlpatterns += running.urls()
running.main(*sys.argv[1:])
