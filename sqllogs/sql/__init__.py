"""Understand a statement: normalize, redact, fingerprint, and judge repetitions."""
