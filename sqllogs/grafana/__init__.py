"""Grafana and Prometheus for a user's own project: the files of `grafana/` with its values in them.

Fed by `manage.py provision_grafana`, in its own thread; nothing else imports it.
An installed sqllogs has the files in this very folder, a clone has them in `grafana/` beside it.
"""
