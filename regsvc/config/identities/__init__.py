"""Settings of identity providers."""
