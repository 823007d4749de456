"""Serve the readers' answers as JSON, CSV and NDJSON with Django REST framework."""
