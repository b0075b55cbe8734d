"""Traces of requests and mails. Off, nothing here imports OpenTelemetry, and each call returns at once."""
