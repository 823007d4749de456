"""The exceptions of this package; none of them ever reaches the host application's queries."""


class SQLLogsError(Exception):
    """The one base of every exception that this package raises."""


class StoreUnavailableError(SQLLogsError):
    """The ring's database cannot be reached or written; the batch is kept and retried."""


class StoreUnreadyError(StoreUnavailableError):
    """The ring's tables are not there (yet): its migrations are due or under way."""


class RejectedRowsError(SQLLogsError):
    """The ring's database refuses the values of a batch; the batch is bisected to find the rows."""


class PlanError(SQLLogsError):
    """A statement cannot be explained; the message says why."""


class ProvisioningError(SQLLogsError):
    """Grafana's files or objects cannot be made; the message says why."""


class ParameterError(SQLLogsError):
    """A parameter or option is unknown, malformed or out of range.

    The API answers it with 400; the terminal and the admin report it in their own way.
    """

    def __init__(self, field: str, message: str, *, code: str = "invalid_parameter") -> None:
        super().__init__(message)
        self.field = field
        self.message = message
        self.code = code


class ForbiddenParameterError(ParameterError):
    """A parameter would reveal what its reader may not read; the API answers it with 403."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(field, message, code="permission_denied")
