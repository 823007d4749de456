"""Make ETags, so that a client which polls gets 304 until something has changed.

Used by the views before they read, in the reader's thread. The tags are weak: two answers with the same
tag have the same records and figures, but `begin` and `end` may have moved with the clock.
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
    """The client already has this answer."""

    def __init__(self, etag: str) -> None:
        super().__init__(etag)
        self.etag = etag


@dataclass(frozen=True, slots=True, kw_only=True)
class Validator:
    """Everything that an answer depends on."""

    digest: str
    """Hash of the query, the reader's permissions, the settings and the state of the log."""
    moving_ends: tuple[datetime, ...]
    """The ends of the range that move with the clock, as in now-5m."""

    @property
    def etag(self) -> str:
        times = [str((end - _EPOCH) // _MICROSECOND) for end in self.moving_ends]
        return f'W/"{".".join([self.digest, *times])}"'

    def revalidate(self, request: HttpRequest, ring: RingSnapshot) -> None:
        """Raise NotModifiedError if the client's answer is still current."""
        for etag in parse_etags(request.headers.get("If-None-Match", "")):
            if self._is_current(etag, ring):
                raise NotModifiedError(self.etag)

    def _is_current(self, etag: str, ring: RingSnapshot) -> bool:
        digest, *times = etag.removeprefix("W/").strip('"').split(".")
        if digest != self.digest or len(times) != len(self.moving_ends):
            return False
        try:
            former = [_EPOCH + int(time) * _MICROSECOND for time in times]
        except (ValueError, OverflowError):
            return False
        # The range has moved. Its records are the same if the parts that it left or gained are empty.
        return not any(
            has_records_between(ring, was, now) for was, now in zip(former, self.moving_ends, strict=True)
        )


def validator(request: HttpRequest, *facts: object, moving_ends: tuple[datetime, ...]) -> Validator:
    """Return the validator of a request; `facts` are what else its answer depends on."""
    depends_on = (
        __version__,
        conf.load(),
        request.build_absolute_uri(),
        facts,
    )
    digest = blake2b(repr(depends_on).encode("utf-8", "backslashreplace"), digest_size=8).hexdigest()
    return Validator(digest=digest, moving_ends=moving_ends)


def moving_ends(query: QueryDict, since: datetime | None, until: datetime | None) -> tuple[datetime, ...]:
    """Return the ends of the range that are given relative to now."""
    texts = given(query, ["from", "to"])
    ends = {"from": since, "to": until}
    return tuple(
        end for name, end in ends.items() if end is not None and texts.get(name, "").startswith("now")
    )


def length_tick(query: QueryDict, begin: datetime, end: datetime, now: datetime) -> int:
    """Return a number that changes when the range has grown by about 1 %.

    Calls per second depend on the length. It is constant if both ends move or neither does.
    """
    texts = given(query, ["from", "to"])
    begin_moves = texts.get("from", "").startswith("now")
    end_moves = end >= now or texts.get("to", "").startswith("now")
    if begin_moves == end_moves:
        return 0
    tick_s = 2 ** max(0, math.floor(math.log2(max((end - begin).total_seconds() / 100, 1))))
    return int(end.timestamp() // tick_s)
