"""Users: profile, password, email change, data export and erasure."""
