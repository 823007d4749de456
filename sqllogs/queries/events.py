"""Read what has happened to the application: deploys and migrations. Runs in the reader's thread."""

from datetime import datetime

from sqllogs.models import Event


def events(
    *, since: datetime | None, until: datetime | None, kinds: list[str], limit: int, offset: int
) -> tuple[list[Event], int]:
    """Return a page of events, newest first, and how many there are."""
    found = Event.objects.order_by("-time", "-pk")
    if since is not None:
        found = found.filter(time__gte=since)
    if until is not None:
        found = found.filter(time__lt=until)
    if kinds:
        found = found.filter(kind__in=kinds)
    return list(found[offset : offset + limit]), found.count()
