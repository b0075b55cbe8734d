"""Identities: accounts at providers by which users log in."""
