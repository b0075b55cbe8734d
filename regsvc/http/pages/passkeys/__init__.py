"""Passkeys on pages: login and account."""
