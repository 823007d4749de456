"""The subcommands of `manage.py sqllogs`, by name.

They run in the command's main thread, read with `sqllogs.read`, and print tables for people or JSON for
programs.
"""

from sqllogs.cli import administration, findings, mcp, records, setup, statements
from sqllogs.cli.options import Subcommand

SUBCOMMANDS: dict[str, Subcommand] = {
    "setup": setup.SETUP,
    "top": statements.TOP,
    "stats": statements.STATS,
    "repeats": statements.REPEATS,
    "reviews": statements.REVIEWS,
    "findings": findings.FINDINGS,
    "tail": records.TAIL,
    "trace": records.TRACE,
    "explain": statements.EXPLAIN,
    "health": administration.HEALTH,
    "mcp": mcp.MCP,
    "token": administration.TOKEN,
    "resize": administration.RESIZE,
    "clear": administration.CLEAR,
}
"""In the order of the help text: set-up, reading, administration."""
