"""What a request carries: body, client, credentials, limits and preconditions."""
