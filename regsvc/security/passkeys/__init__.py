"""Passkeys: what browsers are asked for, and the verification of their answers (Web Authentication level 3)."""
