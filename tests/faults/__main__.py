"""Let the faults happen, print one table, and fail if a row does not hold: `python -m tests.faults`.

`--short` lets each last a second or two, `--write` writes docs/reference/faults.md; words choose rows.
"""

import argparse
import sys
from contextlib import redirect_stdout
from datetime import UTC, datetime
from io import StringIO

import psycopg

from benchmarks.report import machine, table
from sqllogs import __version__
from tests.faults.lab import Lab
from tests.faults.outcome import P99_REQUESTS, Fault, Result, run
from tests.faults.rows import FAULTS
from tests.servers import ROOT

PAGE = ROOT / "docs" / "reference" / "faults.md"
HEADER = (
    *("fault", "load", "captured", "stored", "dropped", "errors", "errors without", "p99 ms", "p99 without"),
    *("recovered after s", "also", "result"),
)
UNSHOWN = {"output", "complaint", "traceback", "flushed", "sent", "ordinary", "poisons"}
"""Figures that only the checks use."""


def main() -> None:
    options = _parser().parse_args()
    chosen = [one for one in FAULTS if all(word.lower() in one.name.lower() for word in options.words)]
    if options.list:
        print("\n".join(one.name for one in chosen))
        return
    results = _run(chosen, options)
    text = _report(results)
    print(text)
    if options.write:
        PAGE.write_text(_page(text, results, options))
    sys.exit(any(one.not_met for one in results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("words", nargs="*", help="only rows with all of these words in their name")
    parser.add_argument("--list", action="store_true", help="list the rows")
    parser.add_argument("--short", action="store_true", help="each fault for a second or two, once")
    parser.add_argument("--outage", type=float, default=30.0, help="seconds that a store is away")
    parser.add_argument("--load", type=float, default=10.0, help="seconds of load before and after")
    parser.add_argument("--write", action="store_true", help="write docs/reference/faults.md")
    return parser


def _run(chosen: list[Fault], options: argparse.Namespace) -> list[Result]:
    results = []
    with Lab(short=options.short, outage_s=options.outage, load_s=options.load) as lab:
        for number, fault in enumerate(chosen, 1):
            results.append(run(fault, lab, timed=not options.short))
            print(f"{number}/{len(chosen)} {fault.name}: {results[-1].verdict}", file=sys.stderr, flush=True)
    return results


def _report(results: list[Result]) -> str:
    with redirect_stdout(StringIO()) as out:
        table("Faults", HEADER, map(_row, results))
    return out.getvalue().partition("### Faults\n")[2].strip()


def _row(result: Result) -> tuple[object, ...]:
    one = result.measured
    known = one.accounts is not None
    dropped = ", ".join(f"{reason} {count:,}" for reason, count in sorted(one.dropped.items()))
    also = ", ".join(
        f"{name} {round(value) if isinstance(value, float) and value > 100 else value}"
        for name, value in one.figures.items()
        if name not in UNSHOWN
    )
    return (
        *(result.name, one.load, one.total("captured") if known else ""),
        *(one.total("stored") if known else "", dropped or (0 if known else "")),
        *map(_shown, (one.errors, one.errors_without, one.p99_ms, one.p99_without_ms, one.recovery_s)),
        *(also.replace("|", "\\|"), result.verdict.replace("|", "\\|")),
    )


def _shown(value: float | None) -> object:
    return "" if value is None else value


def _page(text: str, results: list[Result], options: argparse.Namespace) -> str:
    not_met = [f"- {one.name}: {'; '.join(one.not_met)}" for one in results if one.not_met]
    not_run = [f"- {one.name}: {one.not_run}" for one in results if one.not_run]
    lasting = f"stores away for {options.outage:g} s"
    if options.short:
        lasting = "faults of a second or two, times not compared"
    return f"""# Faults

What happens to the application and to the log when something fails.
`make faults` lets each fault happen to real processes and writes this table; it fails if a row is not met.
`make soak` lets random faults happen to one site for ten minutes (`MINUTES`).

{datetime.now(UTC):%Y-%m-%d}, sqllogs {__version__}, {machine()}, psycopg {psycopg.__version__}; {lasting}.

"Without" is the same load, and the same fault of the server, without sqllogs.
Errors and p99 are those of the application's requests; a server that is stopped refuses some in both cases.
p99 is compared in rows of at least {P99_REQUESTS} answers.

## Not met

{chr(10).join(not_met) or "Nothing."}

## Not run

{chr(10).join(not_run) or "Nothing."}

## All rows

{text}
"""


if __name__ == "__main__":
    main()
