"""Flows of a sign-up, until it is confirmed."""
