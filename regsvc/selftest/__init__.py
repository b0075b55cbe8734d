"""What a running service can be asked to prove of itself, from the outside and over HTTP alone."""
