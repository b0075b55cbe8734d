"""Calls by which users see and take back what happened to their account."""
