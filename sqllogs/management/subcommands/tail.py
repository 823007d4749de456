"""`manage.py sqllogs tail`: records as they come."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from sqllogs import queries
from sqllogs.queries import Ordering, Window
from sqllogs.queries.following import Following, News
from sqllogs.rows import Row
from sqllogs.terminal import options as shared
from sqllogs.terminal import records
from sqllogs.terminal.screen import Screen
from sqllogs.terminal.table import Table

HELP = "Show the newest records and follow."
LINES = 20
POLL_S = 0.5


def add_arguments(parser: CommandParser) -> None:
    shared.add_limit(parser, LINES, "records to start with")
    parser.add_argument("--no-follow", action="store_true", help="do not follow")
    shared.add_json(parser, "a line of JSON for each record, under the names of the API")
    shared.add_filters(parser)


def handle(command: BaseCommand, options: Mapping[str, Any]) -> None:
    tail = _Tail(Screen(command, options))
    chosen = shared.filters(options).qs
    ring = queries.ring()
    limit = shared.check_limit(options, least=0)
    newest = queries.rows(chosen, ring, Window(ordering=Ordering(), limit=limit)) if limit else []
    tail.show(newest[::-1])
    if options["no_follow"]:
        return
    following = Following(chosen, after=ring.seq)
    while True:
        time.sleep(POLL_S)
        for news in following.news():
            tail.tell(news, command)


class _Tail:
    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._table = Table(records.columns(), screen)
        self._header = True

    def tell(self, news: News, command: BaseCommand) -> None:
        if news.overwritten:
            _note(command, f"{news.overwritten:,} records were overwritten before they could be shown.")
        if news.unwritten:
            _note(command, f"{news.unwritten:,} numbers were given out and never written.")
        self.show(news.rows)

    def show(self, rows: Sequence[Row]) -> None:
        found = queries.records(rows, with_text=True)
        if self._screen.as_json:
            for record in found:
                self._screen.json(record, indent=False)
        elif found or self._header:
            for line in self._table.lines(found, header=self._header):
                self._screen.line(line)
            self._header = False
        self._screen.flush()


def _note(command: BaseCommand, text: str) -> None:
    command.stderr.write(f"-- {text}", style_func=str)
