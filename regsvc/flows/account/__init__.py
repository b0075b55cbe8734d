"""Flows of a user with an account: profile, address, password, data."""
