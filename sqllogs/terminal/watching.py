"""Run what a subcommand shows once, or again and again until Ctrl-C."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from django.core.management.base import CommandError

from sqllogs.terminal.screen import Screen

WATCH_MIN_S = 0.2


def watched(screen: Screen, options: Mapping[str, Any], show: Callable[[], None]) -> None:
    """Call `show`, each `--watch` seconds if that is given."""
    interval_s = options["watch"]
    if interval_s is None:
        show()
        return
    if not interval_s >= WATCH_MIN_S:
        raise CommandError(f"--watch: Give at least {WATCH_MIN_S:g} seconds.")
    while True:
        screen.clear()
        show()
        screen.flush()
        time.sleep(interval_s)
