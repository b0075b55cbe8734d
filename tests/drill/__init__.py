"""The loss of the database, rehearsed: `make drill`."""
