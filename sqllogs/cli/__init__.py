"""The subcommands of `manage.py sqllogs`, by name.

They read with `sqllogs.read` in the command's thread, and print tables for people or JSON for programs.
"""

from sqllogs.cli import findings, mcp, records, ring, setup, statements, token
from sqllogs.cli.options import Subcommand

SUBCOMMANDS: dict[str, Subcommand] = {
    "setup": setup.SETUP,
    "top": statements.TOP,
    "stats": statements.STATS,
    "repeats": statements.REPEATS,
    "findings": findings.FINDINGS,
    "tail": records.TAIL,
    "trace": records.TRACE,
    "explain": statements.EXPLAIN,
    "health": ring.HEALTH,
    "mcp": mcp.MCP,
    "token": token.TOKEN,
    "resize": ring.RESIZE,
    "clear": ring.CLEAR,
}
"""In the order of the help text: set-up, reading, administration."""
