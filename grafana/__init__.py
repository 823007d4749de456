"""Dashboards as code: `python -m grafana.build` writes `grafana/dashboards/*.json`.

Run by hand; Grafana reads only the JSON, this package is not needed to use it.
"""
