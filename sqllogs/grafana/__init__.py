"""Provision Grafana and Prometheus for a project: files or push."""
