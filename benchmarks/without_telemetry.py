"""The demo site's settings without its telemetry and its log format, to measure their cost."""

from core.settings import *  # noqa: F403

INSTALLED_APPS = [app for app in INSTALLED_APPS if app != "core"]  # noqa: F405
LOGGING = {}
