"""Searches and actions of administrators and operators."""
