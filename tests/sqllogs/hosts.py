"""Projects with other settings than the tests', to compare answers with."""

from contextlib import contextmanager

from django.urls import set_script_prefix


@contextmanager
def settings_of(host, settings):
    """Use a host's settings; give the prefix that its URLs have then."""
    for name, value in host.items():
        setattr(settings, name, value)
    prefix = host.get("FORCE_SCRIPT_NAME", "")
    set_script_prefix(f"{prefix}/")
    try:
        yield prefix
    finally:
        set_script_prefix("/")
