"""Capture each query on its connection, in the caller's thread; independent of storage."""
