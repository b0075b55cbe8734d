"""Settings: their names, notations and checks."""
