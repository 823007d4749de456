"""Exchange data with OpenTelemetry: trace ids in, query spans and log records out."""
