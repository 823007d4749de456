"""Imported by a program of a test: it waits as long for its store as a busy machine needs.

The bounds are for a store that does not answer; within them, a machine with more to do than it has
cores may not get a batch written.
"""

from sqllogs import recorder
from sqllogs.pipeline import processes, writer

TIMEOUT_S = 100.0

recorder.EXIT_TIMEOUT_S = TIMEOUT_S
recorder.flush.__defaults__ = (TIMEOUT_S,)
processes.POOL_FLUSH_TIMEOUT_S = TIMEOUT_S
writer.FORK_FILE_TIMEOUT_S = TIMEOUT_S
