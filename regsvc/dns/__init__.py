"""Look names up in the DNS."""
