"""`manage.py sqllogs tail`: records as they arrive."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from sqllogs.cli import options as shared
from sqllogs.cli import rendering
from sqllogs.cli.table import Screen, TextTable
from sqllogs.read import records
from sqllogs.read import ring as read_ring
from sqllogs.read.records import Row
from sqllogs.read.ring import Ordering, Window
from sqllogs.read.tail import Poll, RingTail

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
    ring = read_ring.ring()
    limit = shared.check_limit(options, least=0)
    newest = records.rows(chosen, ring, Window(ordering=Ordering(), limit=limit)) if limit else []
    tail.show(newest[::-1])
    if options["no_follow"]:
        return
    following = RingTail(chosen, after=ring.seq)
    while True:
        time.sleep(POLL_S)
        for news in following.poll():
            tail.tell(news, command)


class _Tail:
    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._table = TextTable(rendering.record_columns(), screen)
        self._header = True

    def tell(self, news: Poll, command: BaseCommand) -> None:
        if news.overwritten:
            _note(command, f"{news.overwritten:,} records were overwritten before they could be shown.")
        if news.unwritten:
            _note(command, f"{news.unwritten:,} numbers were given out and never written.")
        self.show(news.rows)

    def show(self, rows: Sequence[Row]) -> None:
        found = records.records(rows, with_text=True)
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
