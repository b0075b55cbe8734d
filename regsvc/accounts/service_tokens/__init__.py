"""Tokens by which other services call the API in their own name."""
