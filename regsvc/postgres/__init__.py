"""PostgreSQL on Trio: connections, the pool, the schema, the embedded server."""
