"""What a response carries: JSON, problems and CORS headers."""
