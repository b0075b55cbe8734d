"""The audit log: writing entries and querying them."""
