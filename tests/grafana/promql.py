"""The queries of the dashboards to Prometheus, with variables filled in as Grafana does."""

from tests.grafana.infinity import ALL, defaults, interpolated, panels

WINDOW = {"__rate_interval": "5m", "__range": "15m", "__interval": "15s"}


def expressions(dashboard):
    """Return each query with the name of its sender."""
    for panel in panels(dashboard):
        for target in panel.get("targets", ()):
            if target["datasource"]["type"] == "prometheus":
                yield f"{panel['title']} {target['refId']}", target["expr"]


def filled(expression, dashboard, **chosen):
    """Fill in the variables as the dashboard is opened, but for those chosen."""
    everything = {
        variable["name"]: variable.get("allValue", ".*")
        for variable in dashboard["templating"]["list"]
        if variable.get("current", {}).get("value") == ALL
    }
    return interpolated(expression, defaults(dashboard) | everything | WINDOW | chosen)
