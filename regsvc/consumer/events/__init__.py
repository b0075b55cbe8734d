"""The children that send events to other services."""
