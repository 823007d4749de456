"""The exceptions of this package. None of them reaches the queries of the host application."""


class SQLLogsError(Exception):
    """Base class of all exceptions of this package."""


class StoreUnavailableError(SQLLogsError):
    """Raised when the store cannot be reached or written; the batch is kept and retried."""


class StoreUnreadyError(StoreUnavailableError):
    """Raised when the store's tables or columns are missing, because migrations were not applied."""


class StoreReplacedError(StoreUnavailableError):
    """Raised when numbers and slots of a batch were reserved in a file that has been replaced since."""


class RejectedRowsError(SQLLogsError):
    """Raised when the store rejects a value in a batch; the batch is bisected to find the row."""


class PlanError(SQLLogsError):
    """Raised when a statement cannot be explained; the message says why."""


class ProvisioningError(SQLLogsError):
    """Raised when Grafana's files or objects cannot be created; the message says why."""


class ParameterError(SQLLogsError):
    """Raised when a parameter or option is unknown, malformed or out of range.

    The API answers 400; the commands and the admin show the message.
    """

    def __init__(self, field: str, message: str, *, code: str = "invalid_parameter") -> None:
        super().__init__(message)
        self.field = field
        self.message = message
        self.code = code


class ForbiddenParameterError(ParameterError):
    """Raised when a parameter requires a permission that the reader lacks; the API answers 403."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(field, message, code="permission_denied")


class NotificationError(SQLLogsError):
    """Raised when findings could not be sent to a receiver; they are sent later."""
