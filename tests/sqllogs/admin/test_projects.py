"""Projects with another admin than Django's own, with the real packages: see host_settings.py."""

import json
import os
import subprocess
import sys

import pytest

from tests.servers import ROOT

SITES = {"custom": {"staff", "support"}}


def run(host, folder, **environment):
    """Return what host.py prints for a project."""
    settings = {"DJANGO_SETTINGS_MODULE": "tests.sqllogs.admin.host_settings", "ADMIN_HOST": host}
    done = subprocess.run(
        [sys.executable, "-m", "tests.sqllogs.admin.host"],
        cwd=ROOT,
        env=os.environ | settings | {"DATA_DIR": str(folder)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('["')]


def check(found, sites):
    assert {site for site, *_ in found} == {*sites, "review"}
    assert len(found) == len(sites) * (2 * 15 + 3) + 1  # three are for superusers
    assert [line for line in found if line[2] not in (200, 302, "reviewed")] == []
    # Each page leads to pages of its own site.
    assert [line for line in found if line[3] not in ([], [line[0]])] == []


@pytest.mark.parametrize("host", ["custom", "jazzmin", "unfold", "unfold base"])
def test_every_page_is_shown_and_reviews_are_stored(host, tmp_path):
    check(run(host, tmp_path), SITES.get(host, {"admin"}))


@pytest.fixture
def tenants(postgresql):
    """The environment of a project with django-tenants, and an empty database."""
    postgresql.create_database("tenants")
    return {"TENANTS_PORT": str(postgresql.port), "TENANTS_DATABASE": "tenants"}


def test_every_page_is_shown_with_tenants(tmp_path, tenants):
    check(run("tenants", tmp_path, **tenants), {"admin"})


def test_router_of_tenants_before_ours_is_reported_with_the_line_to_add(tmp_path, tenants):
    with pytest.raises(AssertionError) as failure:
        run("tenants", tmp_path, TENANTS_ROUTER_FIRST="1", **tenants)
    assert "sqllogs.E004" in str(failure.value)
    assert "`migrate` may not create its tables in 'sqllogs'" in str(failure.value)
    assert 'DATABASE_ROUTERS = ["sqllogs.routers.SQLLogsRouter", *' in str(failure.value)
