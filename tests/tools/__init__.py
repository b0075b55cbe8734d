"""Programs of others that the tests run, and what is generated for packages."""
