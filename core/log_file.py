"""A log file that several processes append to; used by LOGGING."""

import io
import os
from logging.handlers import WatchedFileHandler


class LogFile(WatchedFileHandler):
    """Write each line by one system call, so that no other process can write into it.

    Opened anew when logrotate has moved it away. A lone surrogate is escaped and does not cost the line.
    """

    def _open(self) -> io.TextIOWrapper:
        raw = io.FileIO(self.baseFilename, "ab", opener=_open_private)
        return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True)


def _open_private(path: str, flags: int) -> int:
    """Create a file for its owner only, whatever the umask: tracebacks have values in them."""
    return os.open(path, flags, 0o600)
