"""Projects as people have them, each a change to what `startproject` makes.

A layout is a function that edits the project's files; it returns what differs from a plain project:
the settings module, the address of its view, the files that are to be changed.
"""

from dataclasses import dataclass, field

VIEWS = """
from django.contrib.auth.models import User
from django.http import HttpResponse


def users(request, *args):
    return HttpResponse(User.objects.count())
"""


@dataclass(kw_only=True)
class Layout:
    settings_module: str = "shop.settings"
    url: str = "/users/"
    files: list[str] = field(default_factory=lambda: ["shop/settings.py", "shop/urls.py"])
    environment: dict[str, str] = field(default_factory=dict)


def edit(path, *changes):
    text = path.read_text()
    for old, new in changes:
        assert old in text, (path, old)
        text = text.replace(old, new)
    path.write_text(text)


def append(path, text):
    path.write_text(path.read_text() + text)


def plain(shop):
    return Layout()


def split_settings(shop):
    package = shop / "settings"
    package.mkdir()
    (shop / "settings.py").rename(package / "base.py")
    edit(package / "base.py", (".parent.parent", ".parent.parent.parent"))
    (package / "__init__.py").touch()
    (package / "dev.py").write_text('from .base import *\n\nMIDDLEWARE += []\nALLOWED_HOSTS = ["*"]\n')
    (package / "prod.py").write_text("from .base import *\n\nDEBUG = False\n")
    return Layout(settings_module="shop.settings.dev", files=["shop/settings/dev.py", "shop/urls.py"])


def base_of_split_settings(shop):
    split_settings(shop)
    return Layout(settings_module="shop.settings.base", files=["shop/settings/base.py", "shop/urls.py"])


FIRST_COME_ROUTER = """
class FirstComeRouter:
    def db_for_read(self, model, **hints):
        return "default"

    db_for_write = db_for_read

    def allow_migrate(self, db, app_label, **hints):
        return True
"""


def routers_in_a_list(shop):
    (shop / "routers.py").write_text(FIRST_COME_ROUTER)
    append(shop / "settings.py", 'DATABASE_ROUTERS = ["shop.routers.FirstComeRouter"]\n')
    return Layout()


def own_admin_site(shop):
    (shop / "site.py").write_text(
        "from django.contrib.admin import AdminSite\n\nsite = AdminSite(name='staff')\n"
    )
    edit(
        shop / "urls.py",
        ("from django.contrib import admin", "from shop.site import site"),
        ("admin.site", "site"),
    )
    return Layout()


def asgi_only(shop):
    (shop / "wsgi.py").unlink()
    edit(
        shop / "settings.py",
        ("WSGI_APPLICATION = 'shop.wsgi.application'", "ASGI_APPLICATION = 'shop.asgi.application'"),
    )
    return Layout(files=["shop/settings.py", "shop/urls.py", "shop/asgi.py"])


def rest_framework(shop):
    edit(shop / "settings.py", ("'sqllogs',", "'rest_framework', 'django_filters', 'sqllogs',"))
    append(
        shop / "settings.py",
        'REST_FRAMEWORK = {"DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAdminUser"]}\n',
    )
    return Layout()


def databases_of_the_environment(shop):
    (shop / "env.py").write_text(
        "import os\nfrom urllib.parse import urlsplit\n\n\n"
        "def database(**options):\n"
        "    url = urlsplit(os.environ['DATABASE_URL'])\n"
        "    return {'ENGINE': f'django.db.backends.{url.scheme}', 'NAME': url.path[1:], **options}\n"
    )
    settings = shop / "settings.py"
    before, rest = settings.read_text().split("DATABASES = {")
    rest = rest.split("\n}\n", 1)[1]
    settings.write_text(
        before + "from shop import env\nDATABASES = dict(default=env.database(CONN_MAX_AGE=60))\n" + rest
    )
    return Layout(environment={"DATABASE_URL": "sqlite3:///db.sqlite3"})


def catch_all_url(shop):
    edit(shop / "urls.py", ("import path", "import path, re_path"))
    append(shop / "urls.py", r"urlpatterns += [re_path(r'^((?:[\w\-]+/)*)$', users, name='page')]" + "\n")
    return Layout(url="/some/page/")


def tuples_for_lists(shop):
    (shop / "routers.py").write_text(FIRST_COME_ROUTER)
    settings = shop / "settings.py"
    before, rest = settings.read_text().split("MIDDLEWARE = [")
    settings.write_text(before + "MIDDLEWARE = (" + rest.replace("\n]\n", "\n)\n", 1))
    append(settings, 'DATABASE_ROUTERS = ("shop.routers.FirstComeRouter",)\n')
    edit(shop / "urls.py", ("urlpatterns = [", "urlpatterns = ("), ("\n]\n", "\n)\n"))
    return Layout()


def middleware_of_two_lists(shop):
    edit(
        shop / "settings.py",
        ("MIDDLEWARE = [", "MIDDLEWARE = ['django.middleware.gzip.GZipMiddleware'] + ["),
    )
    return Layout()


def language_in_the_url(shop):
    edit(
        shop / "urls.py",
        (
            "from django.urls import path",
            "from django.conf.urls.i18n import i18n_patterns\nfrom django.urls import path",
        ),
        ("urlpatterns = [", "urlpatterns = i18n_patterns("),
        ("\n]\n", "\n)\n"),
    )
    edit(
        shop / "settings.py",
        ("MIDDLEWARE = [", "MIDDLEWARE = [\n    'django.middleware.locale.LocaleMiddleware',"),
        ("'en-us'", "'de'"),
    )
    return Layout(url="/de/users/")


def apps_of_several_lists(shop):
    settings = shop / "settings.py"
    edit(
        settings,
        ("INSTALLED_APPS = [\n    'sqllogs',", "LOCAL_APPS = ('sqllogs',)\n\nDJANGO_APPS = ["),
        ("\nMIDDLEWARE = [", "\nINSTALLED_APPS = [*DJANGO_APPS, *LOCAL_APPS]\n\nMIDDLEWARE = ["),
    )
    return Layout()


def blocks_for_debug(shop):
    (shop / "routers.py").write_text(FIRST_COME_ROUTER)
    append(
        shop / "settings.py",
        "if DEBUG:\n    MIDDLEWARE += ['django.middleware.gzip.GZipMiddleware']\n"
        "else:\n    DATABASE_ROUTERS = ['shop.routers.FirstComeRouter']\n",
    )
    append(
        shop / "urls.py",
        "from django.conf import settings\nif settings.DEBUG:\n    urlpatterns += [path('debug/', users)]\n",
    )
    return Layout()


def prefix_of_the_server(shop):
    append(shop / "settings.py", "FORCE_SCRIPT_NAME = '/shop'\n")
    return Layout()


def base_dir_of_text(shop):
    edit(
        shop / "settings.py",
        ("from pathlib import Path", "import os"),
        (
            "Path(__file__).resolve().parent.parent",
            "os.path.dirname(os.path.dirname(os.path.abspath(__file__)))",
        ),
        ("BASE_DIR / 'db.sqlite3'", "os.path.join(BASE_DIR, 'db.sqlite3')"),
    )
    return Layout()


def no_base_dir(shop):
    edit(shop / "settings.py", ("BASE_DIR", "_base"))
    return Layout()


def windows_lines_in_another_encoding(shop):
    for name in ("settings.py", "urls.py"):
        text = "# coding: latin-1\n# caf\xe9\n" + (shop / name).read_text().rstrip("\n")
        (shop / name).write_bytes(text.replace("\n", "\r\n").encode("latin-1"))
    return Layout()


def migrate_of_another_package(shop):
    commands = shop / "management" / "commands"
    commands.mkdir(parents=True)
    (commands / "migrate.py").write_text(
        "from django.core.management.base import CommandError\n"
        "from django.core.management.commands.migrate import Command as Migrate\n\n\n"
        "class Command(Migrate):\n"
        "    def handle(self, **options):\n"
        "        raise CommandError('Use migrate_schemas.')\n"
    )
    edit(shop / "settings.py", ("'sqllogs',", "'sqllogs', 'shop',"))
    return Layout()


def settings_for_manage_py_only(shop):
    """As with django-configurations, whose manage.py installs an importer of settings."""
    (shop / "launcher.py").touch()
    settings = shop / "settings.py"
    settings.write_text("import sys\nassert 'shop.launcher' in sys.modules\n" + settings.read_text())
    edit(shop.parent / "manage.py", ("import sys\n", "import sys\nimport shop.launcher\n"))
    return Layout()


LAYOUTS = [
    plain,
    split_settings,
    base_of_split_settings,
    routers_in_a_list,
    own_admin_site,
    asgi_only,
    rest_framework,
    databases_of_the_environment,
    catch_all_url,
    tuples_for_lists,
    middleware_of_two_lists,
    language_in_the_url,
    apps_of_several_lists,
    blocks_for_debug,
    prefix_of_the_server,
    base_dir_of_text,
    no_base_dir,
    windows_lines_in_another_encoding,
    migrate_of_another_package,
    settings_for_manage_py_only,
]
