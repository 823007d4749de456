"""Capture each query on its connection, in the caller's thread; knows no store."""
