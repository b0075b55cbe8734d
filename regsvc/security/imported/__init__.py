"""Password hashes of other systems, verified until their user logs in and gets one of ours."""
