"""Registrations, users and sessions: their rules and their SQL."""
