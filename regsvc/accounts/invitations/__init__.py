"""Invitations: who may sign up where not every client may."""
