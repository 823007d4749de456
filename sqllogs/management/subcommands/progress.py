"""Draw how far a subcommand is, for a person who watches."""

from collections.abc import Iterable

from django.core.management.base import OutputWrapper

BAR = 30
"""Width of the bar, characters."""


def show(steps: Iterable[tuple[int, int]], stderr: OutputWrapper) -> int:
    """Go through (done, total) pairs to their end, drawing them on a terminal; return the last done."""
    done = 0
    drawn = False
    for done, total in steps:
        if stderr.isatty():
            bar = "#" * (BAR * done // max(total, 1))
            stderr.write(f"\r[{bar:<{BAR}}] {done:,} of {total:,} rows", style_func=str, ending="")
            drawn = True
    if drawn:
        stderr.write("")
    return done
