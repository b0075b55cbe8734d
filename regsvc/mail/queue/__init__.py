"""The mail job: claims, bookings, publishing, retries and the circuit breaker."""
