"""Flows of second factors, passkeys and step-up."""
