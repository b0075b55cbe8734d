"""Settings: names, notations and validation."""
