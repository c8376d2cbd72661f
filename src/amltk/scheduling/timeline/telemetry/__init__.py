"""The calls of a scheduler as spans and metrics of OpenTelemetry, sent while it runs."""
