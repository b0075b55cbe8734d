"""Commands for events and webhooks."""
