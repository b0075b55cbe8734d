"""Sessions, refresh tokens and the pages' cookie."""
