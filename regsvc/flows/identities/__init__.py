"""Flows with identity providers: log in, sign up, add and remove an identity."""
