"""Passwords, tokens and signing keys."""
