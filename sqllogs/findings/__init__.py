"""Findings: problems that the log reports by itself, with their evidence and their state."""
