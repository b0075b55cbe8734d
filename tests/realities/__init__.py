"""What takes a cluster or another version of a dependency: `make realities`. The suite runs none of it."""
