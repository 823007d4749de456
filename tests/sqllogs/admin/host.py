"""Run a project of host_settings.py: ask its admin for pages as two users, print the answers as JSON.

The pages are also written to the folder `pages` of DATA_DIR, for a browser.
"""

import json
import re
from urllib.parse import quote

import django

if __name__ == "__main__":
    django.setup()

from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.test import Client

from sqllogs.findings.causes import Evidence, merge
from sqllogs.models import Review
from tests.sqllogs.factories import put, put_statement, put_statistics
from tests.sqllogs.slow_queries import EVERYTHING, A, ago

STATEMENT = f"sqllogs/statement/{A}"
TOKEN_GETS = ("sqllogs/token/", "sqllogs/token/add/")
GETS = (
    "",
    "sqllogs/",
    "sqllogs/sqllog/",
    "sqllogs/sqllog/?q=app_author&min_ms=1",
    "sqllogs/sqllog/2/change/",
    "sqllogs/sqllog/2/history/",
    "sqllogs/statement/",
    "sqllogs/statement/?o=2&status=open&q=app_author",
    "sqllogs/statement/?error=true",
    f"{STATEMENT}/change/",
    f"{STATEMENT}/change/?from=now-5m",
    "sqllogs/finding/",
    "sqllogs/finding/1/change/",
    *TOKEN_GETS,
)
POSTS = (
    (f"{STATEMENT}/explain/", {}),
    (f"{STATEMENT}/review/", {"status": "ignored", "note": "later"}),
    ("sqllogs/statement/?status=all", {"action": "mark_reviewed", "index": "0", "_selected_action": A}),
    ("sqllogs/token/add/", {"name": "grafana", "replace": "on"}),
    ("sqllogs/statement/", {"action": "export_csv", "index": "0", "_selected_action": A}),
)


def migrate():
    if settings.HOST != "tenants":
        call_command("migrate", verbosity=0)
        call_command("migrate", database="sqllogs", verbosity=0)
        return
    call_command("sqllogs", "setup", "--migrate")
    call_command("migrate_schemas", shared=True, run_syncdb=True, verbosity=0)

    from tests.sqllogs.admin.tenants.models import Customer, Domain

    for schema in ("public", "acme"):
        customer = Customer.objects.create(schema_name=schema, name=schema)
        Domain.objects.create(domain=f"{schema}.localhost", tenant=customer, is_primary=True)


def fill():
    put_statement(A, "SELECT name FROM app_author WHERE id = ?", tables="app_author")
    calls = [
        {"fingerprint": A, "time": ago(hours=hours), "route": "authors/", "release": str(hours), **fields}
        for hours in range(1, 9)
        for fields in ({"duration_ms": 1234.5, "trace_id": "d" * 32}, {"error": "IntegrityError"})
    ]
    put(*calls)
    put_statistics(*calls)
    begin, plain = ago(hours=1), {"kind": "n_plus_one", "fingerprint": A, "call_site": "shop/views.py:7 list"}
    merge([Evidence(started_at=begin, seen_at=begin, figures={"times_per_unit": 9.0}, **plain)], begin)
    User.objects.create_superuser("admin")
    staff = User.objects.create_user("staff", is_staff=True)
    staff.user_permissions.set(Permission.objects.filter(codename__in=EVERYTHING))


def answers():
    """Yield site, question, answer, and the sites that its links lead to."""
    from tests.sqllogs.admin.host_urls import sites

    for name in ("admin", "staff"):
        client = Client(headers={"host": "public.localhost"})
        client.force_login(User.objects.get(username=name))
        for site in sites:
            for path in GETS:
                if path in TOKEN_GETS and name != "admin":
                    continue
                answer = client.get(f"/{site.name}/{path}")
                (settings.DATA_DIR / "pages" / f"{quote(path, safe='')}.html").write_text(answer.text)
                yield site.name, f"{name} {path}", answer, re.findall(r'href="/(\w+)/sqllogs/', answer.text)
            for path, data in POSTS:
                if "/token/" in path and name != "admin":
                    continue
                answer = client.post(f"/{site.name}/{path}", data)
                yield site.name, f"{name} {path} {data}", answer, answer.get("Location", "").split("/")[1:2]


if __name__ == "__main__":
    migrate()
    fill()
    (settings.DATA_DIR / "pages").mkdir()
    for site, question, answer, links in answers():
        print(json.dumps([site, question, answer.status_code, sorted(set(links) - {"static"})]))
    print(json.dumps(["review", "", Review.objects.get().status, []]))
