"""Settings of traces."""
