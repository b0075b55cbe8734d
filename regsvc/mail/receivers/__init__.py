"""What is known of the domains that take mail: large services, slips of the keyboard, and where to read the mail."""
