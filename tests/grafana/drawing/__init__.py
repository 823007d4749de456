"""Draw the dashboards without Grafana, with Grafana's own components, from a running site and Prometheus."""
