"""A mail, from its row in the database to the hand-over to a mail server."""
