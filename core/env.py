"""Read settings from the environment, with a clear error for what cannot be read."""

import os

from django.core.exceptions import ImproperlyConfigured


def envbool(name: str, default: bool) -> bool:
    """Return a switch: 1, true, yes, on or 0, false, no, off; raise ImproperlyConfigured else."""
    value = os.environ.get(name, "").strip().lower()
    if not value:
        return default
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off"}:
        return False
    raise ImproperlyConfigured(f"{name}={value!r} is not a switch; use 1 or 0.")


def envint(name: str, default: int) -> int:
    """Return a whole number; raise ImproperlyConfigured for anything else."""
    value = os.environ.get(name, "").strip()
    try:
        return int(value) if value else default
    except ValueError as exc:
        raise ImproperlyConfigured(f"{name}={value!r} is not a whole number.") from exc


def envlist(name: str, default: list[str]) -> list[str]:
    """Return values given by comma."""
    value = os.environ.get(name, "")
    return [item.strip() for item in value.split(",") if item.strip()] or default
