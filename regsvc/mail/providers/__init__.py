"""Mail by the HTTP APIs of providers."""
