"""Messages without a registration: about accounts, and legacy mail."""
