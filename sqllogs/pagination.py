"""Cut what a filter has chosen into pages.

Fed with what `sqllogs.paging` has been asked for, reads by `sqllogs.queries` in
the reader's thread, feeds JSON and page.
"""

from dataclasses import dataclass, replace

from django.http import HttpRequest

from sqllogs import queries
from sqllogs.paging import OFFSET_MAX, Paging
from sqllogs.queries import Place, Records, Ring
from sqllogs.rows import Record, Row

COUNT_MAX = 10_000
"""Records are counted up to here; to count more would take longer than to read the page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The answer of a list, in the order of its JSON."""

    count: int
    count_is_capped: bool
    """There are more than `count`."""
    next: str | None
    previous: str | None
    next_cursor: str | None
    results: list[Record]


def read_page(request: HttpRequest, filtered: Records, paging: Paging, *, with_text: bool) -> Page:
    """Read the page that is asked for; one beyond the last is empty."""
    ring = queries.ring()
    rows = queries.rows(filtered, ring, paging.window)
    shown, there_is_more = rows[: paging.limit], len(rows) > paging.limit
    if paging.cursor is not None and paging.cursor.backward:
        if not there_is_more:  # the beginning is reached: that is the first page, and a full one
            return read_page(request, filtered, replace(paging, cursor=None), with_text=with_text)
        shown.reverse()
    count = _count(filtered, ring, paging, rows)
    following = str(paging.cursor_at(shown[-1])) if there_is_more else None
    return Page(
        count=min(count, COUNT_MAX),
        count_is_capped=count > COUNT_MAX,
        next=_next(request, paging, following),
        previous=_previous(request, paging, shown),
        next_cursor=following,
        results=queries.records(shown, with_text=with_text),
    )


def _count(filtered: Records, ring: Ring, paging: Paging, rows: list[Row]) -> int:
    """Count up to one more than COUNT_MAX, without scanning again what the page has been read from."""
    if paging.cursor is not None or (paging.offset and not rows):
        return queries.count(filtered, ring, COUNT_MAX + 1)
    seen = paging.offset + len(rows)
    if len(rows) <= paging.limit or seen > COUNT_MAX:
        return seen
    if paging.ordering.column != "seq":
        return queries.count(filtered, ring, COUNT_MAX + 1)
    last = Place(rows[-1][0])
    return seen + queries.count_after(last, filtered, ring, paging.ordering, COUNT_MAX + 1 - seen)


def _next(request: HttpRequest, paging: Paging, following: str | None) -> str | None:
    if following is None:
        return None
    offset = paging.offset + paging.limit
    if paging.offset and offset <= OFFSET_MAX:
        return _url(request, offset=str(offset))
    return _url(request, cursor=following)


def _previous(request: HttpRequest, paging: Paging, shown: list[Row]) -> str | None:
    if paging.offset:
        return _url(request, offset=str(max(0, paging.offset - paging.limit)))
    if paging.cursor is None or not shown:
        return None
    return _url(request, cursor=str(paging.cursor_at(shown[0], backward=True)))


def _url(request: HttpRequest, **changes: str) -> str:
    """Return the address of the same list at another place."""
    query = request.GET.copy()
    for name in ("cursor", "offset"):
        query.pop(name, None)
    query.update(changes)
    return request.build_absolute_uri(f"{request.path}?{query.urlencode()}")
