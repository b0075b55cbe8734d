"""The settings of events and hooks."""
