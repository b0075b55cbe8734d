"""The public API of identity providers."""
