"""Flows that start, prove and end sessions."""
