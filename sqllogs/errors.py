"""The exceptions of this package; none of them ever reaches the host application's queries."""


class SQLLogsError(Exception):
    """The one base of every exception that this package raises."""


class StoreUnavailableError(SQLLogsError):
    """The ring's database cannot be reached or is not migrated; the batch is kept and retried."""


class RejectedRowsError(SQLLogsError):
    """The ring's database refuses the values of a batch; the batch is bisected to find the rows."""
