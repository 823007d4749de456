"""Run each loop, compare our advice with an expert's, insert it and run the loop again.

Runs in the environment of the packages. Writes the table of docs/explanation/advice.md; exits with 1 if an
advice differs, or a loop returns something else with the advice followed.
"""

import os
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import django

PAGE = Path(__file__).parents[3] / "docs" / "explanation" / "advice.md"
HEADER = "| Package | In its code | Advice | Queries before | After |\n|-|-|-|-|-|\n"
CORPUS = ("shop", "forum", "tickets", "loops", "unseen")


class Outcome(NamedTuple):
    """What has become of one loop."""

    line: str
    """Of the table."""
    is_right: bool
    queries: int
    """With the advice followed."""


def main() -> int:
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.peers.advice.settings"
    django.setup()
    from django.core.management import call_command

    from tests.peers.advice.corpus import LOOPS
    from tests.sqllogs.advising import QUERIES_MAX

    call_command("migrate", run_syncdb=True, verbosity=0)
    for name in CORPUS:
        import_module(f"tests.peers.advice.{name}")
    outcomes = {name: run(loop) for name, loop in LOOPS.items()}
    lines = "".join(one.line for one in outcomes.values())
    PAGE.write_text(PAGE.read_text().partition(HEADER)[0] + HEADER + lines)
    few = sum(one.queries <= QUERIES_MAX for one in outcomes.values())
    right = sum(one.is_right for one in outcomes.values())
    print(
        f"{len(outcomes)} loops: {right} got the right advice, {few} then send at most {QUERIES_MAX} queries."
    )
    for name, outcome in outcomes.items():
        if not outcome.is_right or outcome.queries > QUERIES_MAX:
            print(f"{'right' if outcome.is_right else 'WRONG'}: {name}: {outcome.line}", end="")
    return int(right < len(outcomes))


def run(loop: Any) -> Outcome:
    from django.apps import apps
    from django.contrib.contenttypes.models import ContentType

    from tests.sqllogs.advising import captured, inserting, named, remedies, rows, undone

    with undone():
        loop.rows()
        ContentType.objects.get_for_models(*apps.get_models())  # cached, as where more than this has run
        with captured() as log:
            before = loop.run(rows)
        found = remedies(log)
        try:
            with captured() as following:
                after = (loop.followed or loop.run)(inserting(found, loop.fills))
        except (AttributeError, SyntaxError, TypeError):  # of code that is wrong
            after = None
    advice = [named(one.remedy) for one in found]
    is_right = advice == list(loop.advice) and after == before
    codes = "<br>".join(f"`{code(one)}`" for one in advice)
    package = f"{loop.package} {version(loop.package)}"
    line = f"| {package} | `{loop.place}` | {codes} | {len(log)} | {len(following)} |\n"
    return Outcome(line, is_right, len(following))


def code(advice: tuple[str, str] | None) -> str:
    """Return the code of an advice without the model of its queryset, which the second column shows."""
    return advice[1].partition(": ")[2] if advice else "none"


if __name__ == "__main__":
    sys.exit(main())
