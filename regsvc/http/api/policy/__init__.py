"""Handlers about who may sign up, and on what conditions."""
