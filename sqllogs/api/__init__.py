"""Serve the answers of `sqllogs.read` as JSON, CSV, NDJSON and pages, with Django REST framework."""
