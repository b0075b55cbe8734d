"""Background work: one module per supervised child."""
