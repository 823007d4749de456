"""A log file that several processes append to; used by LOGGING."""

import io
import os
from logging.handlers import WatchedFileHandler


class LogFile(WatchedFileHandler):
    """Write each line with one system call, so that lines of several processes do not mix.

    Reopens the file after logrotate has moved it. A lone surrogate is escaped, so the line is not lost.
    """

    def _open(self) -> io.TextIOWrapper:
        raw = io.FileIO(self.baseFilename, "ab", opener=open_private)
        return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True)


def open_private(path: str, flags: int) -> int:
    """Create a file for its owner only, whatever the umask: tracebacks have values in them."""
    return os.open(path, flags, 0o600)
