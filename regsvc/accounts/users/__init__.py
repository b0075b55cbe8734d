"""People with a confirmed account."""
