"""Write figures and records for a person at a terminal, and as JSON for programs.

Serves the subcommands that read; each takes its data from `sqllogs.queries`.
"""
