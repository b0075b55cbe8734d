"""Settings about who may sign up."""
