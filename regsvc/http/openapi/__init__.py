"""What each operation declares, and the OpenAPI document made of it."""
