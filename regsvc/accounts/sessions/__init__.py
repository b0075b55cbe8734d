"""Sessions, refresh tokens, and the browser cookie."""
