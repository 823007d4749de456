"""Metrics for Prometheus: what the writer counts, what django-prometheus counts, and where both are served.

Optional: without prometheus_client nothing of this is used. The way of a figure:
sink -> figures -> (a file per process) -> collector -> exporter on its port, or the view at /metrics.
"""
