"""Let a reader who asks again be told that nothing has changed, without reading it all once more.

Used by the views before they read, in the reader's thread. The tags are weak: of
two answers under one tag the records and figures are the same, `begin` and `end`
may have moved with the clock.
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b

from django.http import HttpRequest, QueryDict
from django.utils.http import parse_etags

from sqllogs import __version__, conf
from sqllogs.read.parameters import given
from sqllogs.read.ring import RingSnapshot, has_records_between

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class NotModifiedError(Exception):
    """The reader has this answer already."""

    def __init__(self, etag: str) -> None:
        super().__init__(etag)
        self.etag = etag


@dataclass(frozen=True, slots=True, kw_only=True)
class Validator:
    """What an answer depends on."""

    digest: str
    """Of the query, the reader's rights, the settings, and of what has been written."""
    edges: tuple[datetime, ...]
    """Those ends of the range that move with the clock, as in now-5m."""

    @property
    def etag(self) -> str:
        times = [str((edge - _EPOCH) // _MICROSECOND) for edge in self.edges]
        return f'W/"{".".join([self.digest, *times])}"'

    def revalidate(self, request: HttpRequest, ring: RingSnapshot) -> None:
        """Raise NotModifiedError if the reader's answer would be given again."""
        for etag in parse_etags(request.headers.get("If-None-Match", "")):
            if self._stands_for(etag, ring):
                raise NotModifiedError(self.etag)

    def _stands_for(self, etag: str, ring: RingSnapshot) -> bool:
        digest, *times = etag.removeprefix("W/").strip('"').split(".")
        if digest != self.digest or len(times) != len(self.edges):
            return False
        try:
            former = [_EPOCH + int(time) * _MICROSECOND for time in times]
        except (ValueError, OverflowError):
            return False
        # The range has moved on; it holds the same if nothing is in the part that it has left or won.
        return not any(
            has_records_between(ring, was, now) for was, now in zip(former, self.edges, strict=True)
        )


def validator(request: HttpRequest, *facts: object, edges: tuple[datetime, ...]) -> Validator:
    """Return the validator of a query; `facts` are what else its answer depends on."""
    depends_on = (
        __version__,
        conf.load(),
        request.build_absolute_uri(),
        facts,
    )
    digest = blake2b(repr(depends_on).encode("utf-8", "backslashreplace"), digest_size=8).hexdigest()
    return Validator(digest=digest, edges=edges)


def moving(query: QueryDict, since: datetime | None, until: datetime | None) -> tuple[datetime, ...]:
    """Return those ends of the range that are told relative to now."""
    texts = given(query, ["from", "to"])
    ends = {"from": since, "to": until}
    return tuple(
        end for name, end in ends.items() if end is not None and texts.get(name, "").startswith("now")
    )


def pace(query: QueryDict, begin: datetime, end: datetime, now: datetime) -> int:
    """Return a number that changes whenever the range's length has changed by a hundredth.

    Rates depend on it. A range of which both ends move, or none, keeps its length.
    """
    texts = given(query, ["from", "to"])
    begin_moves = texts.get("from", "").startswith("now")
    end_moves = end >= now or texts.get("to", "").startswith("now")
    if begin_moves == end_moves:
        return 0
    tick_s = 2 ** max(0, math.floor(math.log2(max((end - begin).total_seconds() / 100, 1))))
    return int(end.timestamp() // tick_s)
