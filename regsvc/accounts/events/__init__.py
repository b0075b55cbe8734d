"""Events for other services: where they go, what is sent, and what became of it. Triggers write them."""
