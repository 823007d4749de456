"""Read settings from environment variables, with a clear error for an invalid value."""

import os

from django.core.exceptions import ImproperlyConfigured


def envbool(name: str, default: bool) -> bool:
    """Return a boolean from 1, true, yes, on or 0, false, no, off; otherwise raise ImproperlyConfigured."""
    value = os.environ.get(name, "").strip().lower()
    if not value:
        return default
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off"}:
        return False
    raise ImproperlyConfigured(f"{name}={value!r} is invalid: it must be 1 or 0.")


def envint(name: str, default: int) -> int:
    """Return an integer; raise ImproperlyConfigured for anything else."""
    value = os.environ.get(name, "").strip()
    try:
        return int(value) if value else default
    except ValueError as exc:
        raise ImproperlyConfigured(f"{name}={value!r} is invalid: it must be an integer.") from exc


def envlist(name: str, default: list[str]) -> list[str]:
    """Return comma-separated values."""
    value = os.environ.get(name, "")
    return [item.strip() for item in value.split(",") if item.strip()] or default
