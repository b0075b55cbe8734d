"""What the API accepts and shows, without a web framework."""
