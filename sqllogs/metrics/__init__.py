"""Count for Prometheus, and serve the metrics once per machine."""
