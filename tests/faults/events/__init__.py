"""Events under faults: processes are killed at the moments that matter to an event, and the books are compared."""
