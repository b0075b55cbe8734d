"""The public API, one resource a file."""
