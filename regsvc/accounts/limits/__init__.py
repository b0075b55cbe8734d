"""Rate limits, login attempts, mail schedules and idempotency keys."""
